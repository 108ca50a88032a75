# One command each for what people do here. Needs a Rust toolchain; everything else is installed or fetched when missing.

CARGO ?= cargo
.DEFAULT_GOAL := help
.PHONY: help demo shop test check fmt-check clippy light unit model doc integration tidy mutants fuzz test-matrix chaos chaos-short bench bench-brokers install-tools docker msrv release-check clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Built without the brokers and without optimisation, which it does not need: that is many minutes less of waiting.
demo: ## Watch the whole thing work: an application, the relay, a receiver that sometimes fails
	@sh scripts/install-tools.sh demo
	$(CARGO) build --quiet --no-default-features --features daemon
	./target/debug/outboxd demo $${DATABASE_URL:+--database-url "$$DATABASE_URL"}

shop: ## Open a small web shop that uses the library, with the relay beside it
	@sh scripts/install-tools.sh demo
	$(CARGO) run --quiet --no-default-features --features daemon --example shop

# The order is from fast to slow: most mistakes show within a minute.
test: install-tools fmt-check tidy clippy light unit model doc integration chaos-short ## Check everything: what has to pass before a commit
	@echo "all checks passed"

check: fmt-check tidy clippy ## The fast part of `make test`

fmt-check:
	$(CARGO) fmt --check

clippy:
	$(CARGO) clippy --all-targets -- -D warnings

# What an application links to: without the daemon and what it depends on. And the daemon without the brokers.
light:
	$(CARGO) clippy --no-default-features --lib -- -D warnings
	$(CARGO) clippy --no-default-features --features daemon --lib --bins -- -D warnings

unit:
	$(CARGO) test --quiet --lib --bins

model: ## Search every order of events in a small world; PROPTEST_CASES=100000 for the random part
	$(CARGO) test --quiet --test model

doc:
	$(CARGO) test --quiet --doc
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --no-deps --no-default-features
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --no-deps

# Includes the end-to-end tests on the built binary.
integration:
	$(CARGO) build --quiet --examples
	$(CARGO) test --test it

tidy: ## The rules of the house that a compiler does not know
	$(CARGO) test --quiet --test tidy

mutants: install-tools ## Break the product on purpose, promise by promise, and demand that a test notices
	@sh scripts/mutants.sh

fuzz: ## Any bytes for what outsiders write, under libFuzzer; TARGET=config for one of fuzz/, MINUTES=5 for longer
	@TARGET="$(TARGET)" MINUTES="$(MINUTES)" sh scripts/fuzz.sh

test-matrix: install-tools ## The integration tests on Postgres 14, 15, 16, 17 and 18 (fetched with npm)
	sh scripts/test-matrix.sh

# The rules of the checker on made-up histories, and one run in which every kind of fault happens; about a minute.
chaos-short:
	$(CARGO) test --test chaos -- --nocapture

# Until MINUTES are over and EVENTS are reached, whichever is given; the name of a variable without a value is no limit. BACKLOG: events that the
# slowest handler may be behind before the writers wait; on a slow or busy machine 20000 lets the end come soon. CROWD: handlers beside the five
# that are watched one by one; each has a row for every event that it wants.
chaos: install-tools ## Writers, relays and faults of every kind, long: SEED=.. MINUTES=25 EVENTS=1000000
	OUTBOXD_CHAOS_SEED=$(SEED) OUTBOXD_CHAOS_MINUTES=$(or $(MINUTES),$(if $(EVENTS),,25)) OUTBOXD_CHAOS_EVENTS=$(EVENTS) OUTBOXD_CHAOS_BACKLOG=$(BACKLOG) OUTBOXD_CHAOS_CROWD=$(CROWD) \
		$(CARGO) test --release --features failpoints --test chaos whatever_fails -- --nocapture

bench: install-tools ## Measure this machine: each figure beside the limit it is compared with
	$(CARGO) build --release --quiet
	./target/release/outboxd bench

bench-brokers: install-tools ## Measure every kind of broker against a bare client, on private servers
	$(CARGO) build --release --quiet
	sh scripts/bench-brokers.sh

install-tools: ## Install what is missing: a C compiler, Postgres server programs, what some tests need
	@sh scripts/install-tools.sh

docker: ## Build the container image, for the architecture of this machine
	docker build -t outboxd:latest -t outboxd:$$(sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml | head -n 1) \
		--build-arg REVISION=$$(git rev-parse HEAD) --build-arg CREATED=$$(git log -1 --format=%cI) .

msrv: ## Compile with the oldest compiler that Cargo.toml declares
	@sh scripts/check-msrv.sh

# Says at its end what could not be checked here; OUTBOXD_RELEASE_REQUIRE_ALL=1 makes that a failure.
release-check: ## Everything about a release that can be checked before one: packages, licences, charts, units, workflows, image
	@sh scripts/release-check.sh

clean:
	$(CARGO) clean
