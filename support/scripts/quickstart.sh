#!/usr/bin/env bash
# The README's quick start, to the letter: `make run` in a clone that knows nothing, then a person who signs in by the dev inbox, turns
# two-factor on, signs out and in again, which `latchkey smoke` is. On a port and in a folder of its own.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=$(realpath "${CARGO_TARGET_DIR:-target}")
dir=$(mktemp -d "${TMPDIR:-/tmp}/latchkey-quickstart.XXXXXX")
run=
stop() {
    # The whole group: make, cargo and the server.
    [[ -z $run ]] || kill -- "-$run" 2>/dev/null || true
    [[ -z $run ]] || wait "$run" 2>/dev/null || true
    rm -rf "$dir"
}
trap stop EXIT

port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')
env -u DATABASE_URL LISTEN_ADDR="127.0.0.1:$port" DATA_DIR="$dir/data" setsid make run >"$dir/log" 2>&1 &
run=$!
until grep -q "Mail:.*http://localhost:$port/dev/inbox" "$dir/log"; do
    kill -0 "$run" 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
    sleep 0.1
done
DATA_DIR="$dir/data" APP_ENV=development cargo run --quiet -- user create root@example.org --admin
"$target/debug/latchkey" smoke --base-url "http://localhost:$port" --email smoke@example.org --mailbox dev-inbox
