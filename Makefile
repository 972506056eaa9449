# Plain cargo works too once `make setup` has run; these targets set up what is missing first.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# MKL is for Linux on x86-64 only; everywhere else the pure-Rust kernel takes its place.
ifeq ($(shell uname -sm),Linux x86_64)
FEATURES :=
else
FEATURES := --no-default-features --features faer
endif

.PHONY: help setup demo test simulate test-faults test-faer fuzz schemathesis mitsuba bench soak memory baselines clients lint fmt clippy deny broker clean tools mkl rabbitmq

help: ## this list
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: tools mkl rabbitmq ## fetch what is missing: Intel MKL into .mkl/, RabbitMQ from Debian's packages
	@echo "make: set up"

demo: tools mkl ## solve 16 random systems of N=1000 on an embedded pool, no broker needed
	@cargo run --locked --release $(FEATURES) --bin boss -- solve --random 1000 --count 16

# The documentation's examples run first, so that the closing lines are those of the integration tests.
test: setup clients ## every test, those against a real RabbitMQ and those of clients/ included
	@cargo test --locked $(FEATURES) --doc
	@cargo test --locked $(FEATURES) --tests

# The seeds are those from BASE (0) on. A seed that fails is printed with the command that runs it again.
simulate: tools mkl ## bosses, workers and transport under faults drawn from seeds, in paused time; SEEDS=100000 asks more
	@RABBITRY_SIM_SEEDS=$(or $(SEEDS),10000) RABBITRY_SIM_BASE=$(or $(BASE),0) \
	  cargo test --locked $(FEATURES) --test it -- simulation::nothing simulation::kept::every --nocapture

# VERSIONS=4.3 takes one. 3.10 is Debian 12's package, that of `make setup`; the others go below target/brokers/.
VERSIONS := 3.10 4.0 4.3
test-faults: setup ## brokers and workers killed, stopped, cut off and full, at length, on three versions of RabbitMQ
	@$(if $(filter-out 3.10,$(VERSIONS)),deploy/setup-test-brokers.sh $(filter-out 3.10,$(VERSIONS)))
	@failed=; for version in $(VERSIONS); do \
		RABBITRY_TEST_RABBITMQ=$$version cargo test --locked $(FEATURES) --test it faults:: -- \
			--ignored --nocapture --test-threads=1 || failed="$$failed $$version"; done; \
	[ -z "$$failed" ] || { echo "make: what failed is above, on RabbitMQ$$failed" >&2; exit 1; }

test-faer: tools ## the kernel suite on the pure-Rust kernel, without MKL
	@cargo test --locked --no-default-features --features faer --lib

# Needs a nightly Rust and cargo-fuzz, and says so. `make test` has 50,000 inputs for each target without either.
fuzz: tools ## damaged input for every reader of bytes from outside, found by coverage; TARGET=npy RUNS=10000000
	@fuzz/run.sh "$(TARGET)" "$(RUNS)"

# The program that plain `cargo build` makes. EXAMPLES=500 asks more.
schemathesis: tools mkl ## the bridge against its own OpenAPI document, with schemathesis from PyPI (fetched once)
	@cargo build --locked $(FEATURES) --bin bridge
	@$${PYTHON:-python3} tests/schemathesis/run.py target/debug/bridge $(or $(EXAMPLES),40)

# Also the program that plain `cargo build` makes. MITSUBA="--seed 7 --no-mesh" are options of compare.py.
mitsuba: tools mkl ## pictures of `boss render` against those of Mitsuba 3 from PyPI (fetched once)
	@cargo build --locked $(FEATURES) --bin boss
	@$${PYTHON:-python3} tests/mitsuba/compare.py target/debug/boss $(MITSUBA)

# All of them, though one should fall short of a target of its own and fail.
bench: setup ## the benchmarks, some 25 minutes (criterion; the report is in target/criterion), and `boss bench`
	@cargo run --locked --release $(FEATURES) --bin boss -- bench
	@cargo bench --locked $(FEATURES) --no-fail-fast

soak: setup ## tasks of all sizes for MINUTES=60 while workers are killed: lost, doubled, and memory at start and end
	@cargo bench --locked $(FEATURES) --bench soak -- --minutes $(or $(MINUTES),60)

memory: tools mkl ## the peak memory of one large solution by LU and by the mixed method, of reading JSON, and of a scene
	@cargo test --locked $(FEATURES) --release --lib peak_memory -- --ignored --nocapture --test-threads=1

clients: tools ## what the clients in other languages need for their tests: NumPy, pika, and minion_eigen built
	@deploy/setup-clients.sh

# Not part of `setup`: only `cargo bench --bench versus` wants them, and it says what is missing and goes on without.
baselines: ## NumPy and Eigen into target/baselines, for `cargo bench --bench versus` to compare with
	@$${PYTHON:-python3} benches/baselines/run.py setup

lint: fmt clippy deny ## formatting, clippy with warnings denied, cargo-deny if it is installed

fmt: tools
	@cargo fmt --check

# Needs MKL: clippy runs the build scripts, and intel-mkl-src tries a download of its own where it finds none.
clippy: tools mkl
	@cargo clippy --locked $(FEATURES) --all-targets -- -D warnings

# Not `advisories`: that fetches the RustSec database from GitHub. Run it by hand: cargo deny check advisories
deny:
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --locked check licenses bans sources; \
	else echo "make: licences and sources are not checked, there is no cargo-deny (cargo install --locked cargo-deny)"; fi

broker: rabbitmq ## a private RabbitMQ with its management page, in the foreground; Ctrl-C stops it
	@deploy/run-broker.sh

clean: ## remove what cargo has built (.mkl/ stays)
	@cargo clean

tools:
	@command -v cargo >/dev/null || { echo "make: no cargo. Install Rust (rustup.rs), $$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "make: no C compiler. Debian and Ubuntu: apt-get install gcc libc6-dev" >&2; exit 1; }

mkl:
ifeq ($(FEATURES),)
	@deploy/setup-mkl.sh
endif

rabbitmq:
	@deploy/setup-rabbitmq.sh
