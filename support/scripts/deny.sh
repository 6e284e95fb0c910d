#!/usr/bin/env bash
# Licences, banned crates and sources of the whole, then the narrower rules of `auth`. Without cargo-deny it says so and passes.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v cargo-deny >/dev/null; then
    echo "cargo-deny is not installed: licences and bans were not checked (cargo install --locked cargo-deny)." >&2
    exit 0
fi
cargo deny check licenses bans sources
cargo deny --manifest-path auth/Cargo.toml check bans
