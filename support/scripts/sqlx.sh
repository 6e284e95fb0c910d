#!/usr/bin/env bash
# Writes `.sqlx` anew: what PostgreSQL says about each query, which lets the workspace compile without a database.
set -euo pipefail
cd "$(dirname "$0")/../.."

rm -f .sqlx/query-*.json
# The macros write their files only where they run again, so cargo must take these crates for changed.
grep -rlE 'query(_as|_scalar)?!' --include='*.rs' auth app server support | xargs touch
SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$PWD/.sqlx support/scripts/scratch-postgres.sh cargo check --workspace --all-targets
