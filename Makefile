# Thin on purpose: every line here also works alone, typed into a shell.

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))

# Queries are checked against `.sqlx`, also where a DATABASE_URL is set for the program itself.
export SQLX_OFFLINE = true
# Built by `cargo test`, taken by the browser tests.
export LATCHKEY_BIN ?= $(TARGET)/debug/latchkey
# What each test took.
export TEST_TIMES ?= $(TARGET)/test-times

.PHONY: run test test-all check mutants bench load sqlx pictures

# Pages at http://localhost:3000/login, mail at http://localhost:3000/dev/inbox.
run:
	support/scripts/install.sh postgresql
	APP_ENV=development cargo run

PLAYWRIGHT := end2end/node_modules/.package-lock.json
$(PLAYWRIGHT): end2end/package-lock.json
	support/scripts/install.sh node
	npm --prefix end2end ci --no-audit --no-fund

# All but what is called `thorough`, which takes longer and needs more programs.
test: $(PLAYWRIGHT)
	support/scripts/install.sh postgresql chromium node
	rm -f $(TEST_TIMES)
	support/scripts/cargo-test.mjs --workspace -- --skip thorough::
	support/scripts/quickstart.sh
	cd end2end && npx playwright test --grep-invert thorough
	@echo "The slowest tests, in seconds:"; sort -rn $(TEST_TIMES) | head -n 20

test-all: $(PLAYWRIGHT)
	support/scripts/install.sh postgresql chromium node pgbouncer patroni java python curl openssl nginx caddy traefik prometheus
	rm -f $(TEST_TIMES)
	support/scripts/cargo-test.mjs --workspace
	support/scripts/quickstart.sh
	support/scripts/api.sh
	support/scripts/html.sh
	cd end2end && npx playwright test
	@echo "The slowest tests, in seconds:"; sort -rn $(TEST_TIMES) | head -n 20

check:
	support/scripts/install.sh postgresql python prometheus
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	# What production runs.
	cargo clippy --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
	support/scripts/deny.sh
	support/scripts/migrations.sh
	support/scripts/ops.sh
	support/scripts/mutants.py --check

# Removes each security rule in turn: its test must fail. All, a part (SHARD=1/4), or some (MUTANTS="a b").
mutants:
	support/scripts/install.sh postgresql python
	support/scripts/mutants.py

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
pictures: $(PLAYWRIGHT)
	support/scripts/install.sh postgresql chromium node pngquant
	cargo build
	cargo test --workspace --example gallery
	support/scripts/pictures.sh
