# Everything a person does here is one target. `make` alone lists them.
# Each target installs what it needs into .venv and builds the extension when a source changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps

RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name 'Cargo.toml')
PYTHON_SOURCES := $(shell find python -name '*.py' -o -name '*.pyi' -o -name '*.json')

# On Linux, zig links against the glibc of 2012, whichever is installed; it comes from PyPI.
PORTABLE := $(if $(filter Linux,$(shell uname -s)),--zig --compatibility manylinux2014)
# Where Rust has its library for musl (rustup target add x86_64-unknown-linux-musl), a wheel for musl is built, too.
MUSL = $(notdir $(wildcard $(shell rustc --print sysroot)/lib/rustlib/$(shell uname -m)-unknown-linux-musl))
BUILD_WHEEL = PATH="$(abspath $(BIN)):$$PATH" $(BIN)/maturin build --quiet --release --out dist

DEMO_FLAGS ?=
TEST_FLAGS ?=
# Processes that share the tests: a test that waits for a server or a timer leaves its core to another.
TEST_WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1))))
PYTEST := $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal
BENCH_FLAGS ?=
INSTRUCTIONS_FLAGS ?=
FUZZ_FLAGS ?=
STRESS_FLAGS ?=
PODS_FLAGS ?=
SPOOL_FLAGS ?=
SIMULATE_FLAGS ?= --count 2000 --coverage --jobs $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
SIMULATE_FAULTS_FLAGS ?=
WORKS_UNDER_FLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMPS)/venv:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or later is needed, this is " + sys.version) if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' 'maturin>=1.14,<2'
	@mkdir -p $(STAMPS) && touch $@

# Dependencies of each kind of work; groups are told in pyproject.toml.
$(STAMPS)/deps-%: $(STAMPS)/venv pyproject.toml
	$(BIN)/python -m pip install --quiet $(if $(filter runtime,$*),,--group $*)
	@touch $@

# The extension and the package, installed in place: Python files are read from the checkout. The feature `testing` adds
# what only tests need, in a module of its own, `schematic_native._testing`; no other build has it.
$(STAMPS)/built: $(STAMPS)/venv $(RUST_SOURCES) pyproject.toml
	@command -v cargo >/dev/null || { echo "Rust is needed to build the extension: see https://rustup.rs" >&2; exit 1; }
	$(BIN)/maturin develop --quiet --release --features testing --extras emulator
	@touch $@

.PHONY: build
build: $(STAMPS)/built ## build the extension and install the package into .venv

.PHONY: demo
demo: $(STAMPS)/built ## run the main job on the embedded emulator (DEMO_FLAGS="--seconds 5 --threads 4")
	$(BIN)/schematic-native demo $(DEMO_FLAGS)

.PHONY: test
test: test-rust test-python ## pass every test

.PHONY: test-rust
test-rust:
	cargo test --quiet --locked -p schematic_core -p schematic_spool

.PHONY: test-python
test-python: $(STAMPS)/built $(STAMPS)/deps-test $(STAMPS)/deps-peer $(STAMPS)/deps-docs $(STAMPS)/deps-browser
	$(PYTEST) $(TEST_FLAGS)

# The oldest releases that pyproject.toml allows go before the environment's on the path.
$(STAMPS)/oldest: $(STAMPS)/venv pyproject.toml scripts/oldest.py
	rm -rf $(VENV)/oldest
	$(BIN)/python -m pip install --quiet --no-warn-conflicts --target $(VENV)/oldest $$($(BIN)/python scripts/oldest.py)
	@touch $@

.PHONY: test-oldest
test-oldest: $(STAMPS)/built $(STAMPS)/deps-test $(STAMPS)/oldest ## what waits, with the oldest releases of what it needs
	PYTHONPATH=$(VENV)/oldest $(PYTEST) -W ignore::DeprecationWarning tests/stores tests/emulator \
		--ignore tests/stores/test_cluster.py --ignore tests/stores/test_cluster_faults.py \
		--ignore tests/emulator/dashboard/test_browser.py \
		tests/service/test_rest.py tests/service/test_datastream.py tests/service/test_events.py tests/cache \
		tests/client/test_client_async.py tests/client/test_client_sync.py tests/client/test_service_failures.py \
		tests/client/test_wrong_arguments.py tests/client/test_lifecycle.py tests/client/test_without_stream.py \
		tests/client/test_server_holds.py tests/leases/test_sharing.py tests/leases/test_clocks.py tests/leases/test_slabs.py \
		tests/leases/test_owing.py tests/leases/test_sweep_pages.py tests/leases/test_slab_claims.py tests/leases/test_busy_stores.py

# LiteLLM wants releases of its own of what it needs: they go before the environment's on the path.
$(STAMPS)/litellm: $(STAMPS)/venv pyproject.toml
	rm -rf $(VENV)/litellm
	$(BIN)/python -m pip install --quiet --no-warn-conflicts --target $(VENV)/litellm --group litellm
	@touch $@

.PHONY: test-litellm
test-litellm: $(STAMPS)/built $(STAMPS)/deps-test $(STAMPS)/litellm ## calls through LiteLLM: its SDK, and its proxy as a process
	PYTHONPATH=$(abspath $(VENV)/litellm) $(BIN)/python -m pytest -W ignore tests/llm \
		'tests/test_docs.py::test_the_examples_of_a_page_run[litellm.md]'

.PHONY: lint
lint: $(STAMPS)/built $(STAMPS)/deps-lint $(STAMPS)/deps-test $(STAMPS)/deps-peer ## formatters, linters, type checkers, stubs
	cargo fmt --check
	$(BIN)/python -m scripts.rust_floors
	$(BIN)/python -m scripts.python_floors
	cargo clippy --quiet --locked --workspace --all-targets --all-features -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy --strict tests/typed_program.py
	$(BIN)/pyright
	$(BIN)/python -m mypy.stubtest schematic_native._native schematic_native._testing \
		--allowlist tests/stubtest-allowlist.txt

.PHONY: format
format: $(STAMPS)/deps-lint ## rewrite sources as the formatters want them
	cargo fmt
	$(BIN)/ruff check --fix-only --exit-zero
	$(BIN)/ruff format

.PHONY: bench
bench: $(STAMPS)/built $(STAMPS)/deps-bench ## beside the published SDK and others, then the core alone (BENCH_FLAGS="--save main")
	$(BIN)/schematic-native bench --all --html .bench/report.html --json .bench/last.json $(BENCH_FLAGS)
	cargo bench --quiet --locked -p schematic_core

.PHONY: bench-docs
bench-docs: $(STAMPS)/built $(STAMPS)/deps-bench ## measure, and write the table into README and docs/performance.md
	$(BIN)/schematic-native bench --samples 100 --document README.md docs/performance.md $(BENCH_FLAGS)

.PHONY: instructions
instructions: $(STAMPS)/built ## hold the instructions of a check and a settle against their budget
	$(BIN)/python benches/instructions.py $(INSTRUCTIONS_FLAGS)

.PHONY: fuzz
fuzz: $(STAMPS)/built $(STAMPS)/deps-test $(STAMPS)/deps-peer ## compare the engine with the published one on random inputs
	$(BIN)/python -m tests.engine.fuzz $(FUZZ_FLAGS)

.PHONY: stress
stress: $(STAMPS)/built $(STAMPS)/deps-test ## run the client against a failing service and audit it (STRESS_FLAGS="--seed 1 --async")
	$(BIN)/python -m tests.stress $(STRESS_FLAGS)

.PHONY: stress-redis
stress-redis: $(STAMPS)/built $(STAMPS)/deps-test ## kill pods that share a lease in Redis, and audit (PODS_FLAGS="--slabs --async")
	$(BIN)/python -m tests.pods $(PODS_FLAGS)

.PHONY: kill-spool
kill-spool: $(STAMPS)/built $(STAMPS)/deps-test ## kill processes that settle onto a spool, and audit (SPOOL_FLAGS="--kills 100 --settles 10000")
	$(BIN)/python -m tests.spool.kills $(SPOOL_FLAGS)

.PHONY: simulate
simulate: $(STAMPS)/built $(STAMPS)/deps-test ## run clients, Redis and the service under a clock of its own (SIMULATE_FLAGS="--seed 7 --replay")
	$(BIN)/python -m tests.simulation $(SIMULATE_FLAGS)

.PHONY: simulate-faults
simulate-faults: $(STAMPS)/built $(STAMPS)/deps-test ## plant wrong lines, and count the schedules until each is found
	$(BIN)/python -m tests.simulation.planted $(SIMULATE_FAULTS_FLAGS)

# Programs of another Debian suite, run with their own libc; where they cannot be had, their probes say so.
DEBIAN_SUITES := forky trixie
DEBIAN_PACKAGES_forky := redis-server valkey-server redict-server python3.14 python3.15
DEBIAN_PACKAGES_trixie := valkey-server

$(DEBIAN_SUITES:%=.debian/%): .debian/%: scripts/install_debian_tree.sh
	rm -rf $@.new
	if $< $* $@.new $(DEBIAN_PACKAGES_$*); then rm -rf $@ && mv $@.new $@; fi

.debian/miniredis: $(wildcard tests/under/programs/miniredis/*)
	-cd $(<D) && go build -o $(abspath $@) .

.PHONY: works-under
works-under: $(STAMPS)/built $(STAMPS)/deps-test $(STAMPS)/deps-under $(DEBIAN_SUITES:%=.debian/%) .debian/miniredis ## run under servers, pools, interpreters, networks; date docs/works_under.md
	$(BIN)/python -m tests.under $(WORKS_UNDER_FLAGS)

.PHONY: docs
docs: $(STAMPS)/deps-docs ## build the site into site/, with every warning an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

.PHONY: screenshots
screenshots: $(STAMPS)/built $(STAMPS)/deps-browser ## the pictures of the emulator's dashboard in docs/images, with chromium
	$(BIN)/python -m scripts.screenshots

.PHONY: wheel
wheel: $(STAMPS)/venv $(STAMPS)/deps-package ## build wheels and an sdist into dist/, and verify them
	rm -rf dist
	$(BUILD_WHEEL) $(PORTABLE)
	$(if $(MUSL),$(BUILD_WHEEL) --target $(MUSL) --zig --compatibility musllinux_1_2)
	$(BIN)/maturin sdist --out dist
	@$(MAKE) --no-print-directory verify

# What is tested lies in dist/, so the tests' own setup, which imports the package of the checkout, stays out.
.PHONY: verify
verify: $(STAMPS)/deps-package $(STAMPS)/deps-test ## verify what is in dist/: read it, install it, use it
	$(BIN)/python -m scripts.verify_package dist/*
	SCHEMATIC_DIST=dist $(BIN)/python -m pytest --quiet --confcutdir=tests/package tests/package

# Built from source, in some minutes, the first time; DENY_CHECKS="bans licenses sources" needs no network.
DENY_VERSION := 0.20.2
DENY_CHECKS ?= advisories bans licenses sources

$(STAMPS)/cargo-deny-$(DENY_VERSION): $(STAMPS)/venv
	cargo install --quiet --locked --root $(VENV) cargo-deny@$(DENY_VERSION)
	@touch $@

.PHONY: deny
deny: $(STAMPS)/cargo-deny-$(DENY_VERSION) ## licences, advisories and duplicates of the crates
	PATH="$(abspath $(BIN)):$$PATH" cargo deny --locked check $(DENY_CHECKS)

.PHONY: clean
clean: ## forget everything that was built
	rm -rf $(VENV) target dist site python/schematic_native/*.so .bench
