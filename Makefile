# Thin on purpose: every line here also works alone, typed into a shell.

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
LATCHKEY_BIN ?= $(TARGET)/debug/latchkey

# Queries are checked against `.sqlx`, also where a DATABASE_URL is set for the program itself.
export SQLX_OFFLINE = true

.PHONY: run test check bench load sqlx pictures

# Pages at http://localhost:3000/login, mail at http://localhost:3000/dev/inbox.
run:
	support/scripts/install.sh postgresql
	APP_ENV=development cargo run

test:
	support/scripts/install.sh postgresql pgbouncer patroni chromium node java python curl openssl zbar nginx caddy traefik prometheus
	cargo test --workspace
	cargo build
	support/scripts/quickstart.sh
	support/scripts/api.sh
	npm --prefix end2end ci --no-audit --no-fund
	cargo build --workspace --example gallery
	$(TARGET)/debug/examples/gallery $(TARGET)/gallery
	support/scripts/html.sh
	cd end2end && LATCHKEY_BIN=$(LATCHKEY_BIN) GALLERY=$(TARGET)/gallery npx playwright test

check:
	support/scripts/install.sh postgresql python prometheus
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
	support/scripts/deny.sh
	support/scripts/migrations.sh
	support/scripts/ops.sh

# Of what production runs, which takes minutes to build.
bench:
	support/scripts/install.sh postgresql
	cargo build --release
	cargo run --release -p bench

# People who sign in (docs/load.md): `make load LOAD="--rate 100 --for 60"`.
load:
	support/scripts/install.sh postgresql
	cargo build --profile fast
	cargo run --profile fast -p bench -- load $(LOAD)

# After a query or a migration has changed.
sqlx:
	support/scripts/install.sh postgresql
	support/scripts/sqlx.sh

# After a screen has changed: its pictures in help and in the README, and what a screen reader says of it. Read the diff.
pictures:
	support/scripts/install.sh postgresql chromium node zbar pngquant
	cargo build
	cargo build --workspace --example gallery
	npm --prefix end2end ci --no-audit --no-fund
	support/scripts/pictures.sh $(LATCHKEY_BIN)
