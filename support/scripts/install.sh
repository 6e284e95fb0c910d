#!/usr/bin/env bash
# Installs what is missing of: postgresql, chromium, node, python, zbar. With apt where there is one; elsewhere it says what to install.
set -euo pipefail

has() { command -v "$1" >/dev/null 2>&1; }

# Where the launcher looks too (support/private_postgres/src/binaries.rs).
has_postgresql() {
    [[ -n ${PG_BIN:-} ]] || has postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null \
        || compgen -G '/usr/pgsql-*/bin/postgres' >/dev/null || compgen -G '/opt/homebrew/opt/postgresql*/bin/postgres' >/dev/null \
        || compgen -G '/usr/local/opt/postgresql*/bin/postgres' >/dev/null \
        || compgen -G '/Applications/Postgres.app/Contents/Versions/*/bin/postgres' >/dev/null
}

packages=()
for tool in "$@"; do
    case $tool in
        postgresql) has_postgresql || packages+=(postgresql) ;;
        chromium) has chromium || has chromium-browser || has google-chrome || packages+=(chromium) ;;
        node) has node && has npm || packages+=(nodejs npm) ;;
        zbar) has zbarimg || packages+=(zbar-tools) ;;
        python) python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3 python3-venv) ;;
        *) echo "install.sh: no tool called $tool" >&2; exit 2 ;;
    esac
done
[[ ${#packages[@]} -gt 0 ]] || exit 0

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
trap '${root[@]+"${root[@]}"} rm -f "$no_cluster"' EXIT

${root[@]+"${root[@]}"} apt-get update
${root[@]+"${root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
