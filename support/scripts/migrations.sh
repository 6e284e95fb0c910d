#!/usr/bin/env bash
# Checks the migrations: squawk knows what locks or breaks a running system (.squawk.toml says which of its rules don't fit
# here), and each migration must bear being applied twice.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=${CARGO_TARGET_DIR:-target}/squawk
version=2.70.0
if [[ $("$venv/bin/squawk" --version 2>/dev/null) != "squawk $version" ]]; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "squawk-cli==$version"
fi
"$venv/bin/squawk" migrations/*.sql
support/scripts/scratch-postgres.sh true
echo "The migrations apply, and apply again."
