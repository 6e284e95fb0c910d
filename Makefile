# Thin on purpose: every line here also works alone, typed into a shell.

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
LATCHKEY_BIN ?= $(TARGET)/debug/latchkey

# Queries are checked against `.sqlx`, also where a DATABASE_URL is set for the program itself.
export SQLX_OFFLINE = true

.PHONY: run test check bench load sqlx

# Pages at http://localhost:3000/login, mail at http://localhost:3000/dev/inbox.
run:
	support/scripts/install.sh postgresql
	APP_ENV=development cargo run

test:
	support/scripts/install.sh postgresql chromium node zbar nginx caddy traefik
	cargo test --workspace
	cargo build
	support/scripts/api.sh
	npm --prefix end2end ci --no-audit --no-fund
	cd end2end && LATCHKEY_BIN=$(LATCHKEY_BIN) npx playwright test

check:
	support/scripts/install.sh postgresql python
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
	support/scripts/deny.sh
	support/scripts/migrations.sh

bench:
	support/scripts/install.sh postgresql
	cargo build --profile fast
	cargo run --profile fast -p bench

# People who sign in (docs/load.md): `make load LOAD="--rate 100 --for 60"`.
load:
	support/scripts/install.sh postgresql
	cargo build --profile fast
	cargo run --profile fast -p bench -- load $(LOAD)

# After a query or a migration has changed.
sqlx:
	support/scripts/install.sh postgresql
	support/scripts/sqlx.sh
