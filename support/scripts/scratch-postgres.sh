#!/usr/bin/env bash
# Runs a command beside a throw-away PostgreSQL with every migration applied; DATABASE_URL names it. Each migration is applied
# twice with psql, so one that can't bear that fails here.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=${PG_BIN:-}
if [[ -z $bin ]] && postgres=$(command -v postgres); then
    # A link such as /usr/bin/postgres stands alone; initdb lies beside what it points to.
    bin=$(dirname "$(realpath "$postgres")")
fi
if [[ -z $bin ]]; then
    postgres=$(compgen -G '/usr/lib/postgresql/*/bin/postgres' | sort -V | tail -n 1)
    bin=${postgres%/*}
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/latchkey-scratch.XXXXXX")
as=()
if [[ $(id -u) == 0 ]]; then
    # PostgreSQL refuses to run as root.
    user=postgres
    id -u "$user" >/dev/null 2>&1 || user=nobody
    chown "$user" "$dir"
    as=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups)
fi
as_postgres() { (cd / && env -u DATABASE_URL LC_ALL=C.UTF-8 ${as[@]+"${as[@]}"} "$@"); }

stop() {
    as_postgres "$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$dir"
}
trap stop EXIT

as_postgres "$bin/initdb" -D "$dir/data" -U latchkey --encoding=UTF8 --auth-local=trust --auth-host=reject --no-sync >/dev/null
as_postgres "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w \
    -o "-c listen_addresses= -c unix_socket_directories=$dir -c fsync=off" start >/dev/null
# The folder lets in PostgreSQL's own user and root, and nobody else.
as_postgres "$bin/createdb" -h "$dir" -U latchkey latchkey
for _ in first second; do
    for migration in migrations/*.sql; do
        "$bin/psql" -h "$dir" -U latchkey -d latchkey --no-psqlrc --quiet --set ON_ERROR_STOP=1 -f "$migration"
    done
done

DATABASE_URL="postgres://latchkey@${dir//\//%2F}/latchkey" "$@"
