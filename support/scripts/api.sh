#!/usr/bin/env bash
# Asks a server everything its OpenAPI document allows and forbids (schemathesis): no 5xx, no status or body that the document doesn't
# know, nothing opened without a key. The database is thrown away.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [[ ${1:-} != inside ]]; then
    exec support/scripts/scratch-postgres.sh "$0" inside
fi

target=$(realpath "${CARGO_TARGET_DIR:-target}")
venv=$target/schemathesis
version=4.32.5
if [[ $("$venv/bin/schemathesis" --version 2>/dev/null) != "schemathesis, version $version" ]]; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
fi
latchkey=${LATCHKEY_BIN:-$target/debug/latchkey}

dir=$(mktemp -d "${TMPDIR:-/tmp}/latchkey-api.XXXXXX")
server=
stop() {
    [[ -z $server ]] || kill "$server" 2>/dev/null || true
    rm -rf "$dir"
}
trap stop EXIT

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
# Policy limits off: what they refuse after a minute would hide everything else.
export APP_ENV=development DATA_DIR=$dir LIMITS=off RUST_LOG=warn LISTEN_ADDR=127.0.0.1:$port BASE_URL=http://localhost:$port
"$latchkey" serve >"$dir/log" 2>&1 &
server=$!
for _ in $(seq 300); do
    python3 -c "import urllib.request as r; r.urlopen('$BASE_URL/readyz')" 2>/dev/null && break
    kill -0 "$server" || { cat "$dir/log"; exit 1; }
    sleep 0.1
done
"$latchkey" user create mara@example.org >/dev/null
scopes=(signin sessions users audit:read flags metrics:read)
made=$("$latchkey" apikey create schemathesis "${scopes[@]/#/--scope=}")
key=${made%%$'\n'*}

# It keeps what it found in the folder it runs in, and finds its settings there. A secret that nobody knows is right by its form and
# answered 404, a link that is dead 410: neither says that right data was refused.
cd "$dir"
cat >schemathesis.toml <<'TOML'
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "410", "429", "5xx"]
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx"]
TOML
"$venv/bin/schemathesis" run "$BASE_URL/api/v1/openapi.json" --header "Authorization: Bearer $key" --max-examples "${EXAMPLES:-50}" --seed "${SEED:-1}" \
    --suppress-health-check all --generation-database none "${@:2}"
