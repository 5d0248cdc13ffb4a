# HARMONI: everything a developer or a CI machine runs. `make demo` and `make test` need only
# git, make and Python 3.11 or newer with its venv module.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest -q
# Two cores are the size of the machine that everybody has.
JOBS ?= 2

.PHONY: demo test check lint unit soak fuzz bench lock peers clean

demo: $(READY)  ## run the whole of HARMONI once on loopback, and check it
	$(BIN)/harmoni demo $(DEMO_ARGS)

test: $(READY) peers  ## the whole suite, other vendors' tools included
	$(PYTEST) -n $(JOBS) tests

check: $(READY) lint unit  ## format, lint, types, layers, lock, unit and property tests

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTHON) tools/check_tree.py

unit: $(READY)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q tests/unit
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=$(COVERAGE_MIN)

COVERAGE_MIN := 88

soak: $(READY) peers  ## what takes longer than a coffee
	HYPOTHESIS_PROFILE=deep HARMONI_CRASH_STATES=20600 HARMONI_BYTES=all \
	  HARMONI_POWER_CUTS=40 HARMONI_INDEX_FAULTS_EVERY=1 HARMONI_KILLS=100 \
	  HARMONI_MUTATIONS=50000 \
	  $(PYTEST) -n $(JOBS) -rP tests --timeout 3600

bench: $(READY) peers  ## measure everything beside the peers, into bench/RESULTS.md; an idle machine
	$(BIN)/python bench/run.py

fuzz: $(READY)  ## property tests of every parser, deep profile
	HYPOTHESIS_PROFILE=deep $(PYTEST) tests/unit -k "arbitrary or mutated or property"

peers:
	@sh tools/install_peers.sh

lock: $(VENV)/bin/python  ## pin every dependency with hashes, without any address
	$(BIN)/pip install -q --disable-pip-version-check pip-tools
	$(BIN)/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --extra dev \
	  --no-emit-index-url --no-emit-find-links --no-header --resolver=backtracking \
	  --output-file requirements.lock pyproject.toml

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(READY): $(VENV)/bin/python requirements.lock pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*
