# `make` lists what there is. Everything runs on loopback; ports and folders: `python3 -m stack --help`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .tools/venv
METAFLOW := examples/metaflow
METAFLOW_VENV := .tools/examples/metaflow
PYTEST_ARGS ?=
# Tests mostly wait: so many files run at once, each with stacks of its own.
AT_ONCE := --numprocesses 3 --dist loadfile
# The examples that share a runner and one table; `make example-NAME` runs one of them.
EXAMPLES := agent celery prefect dagster airflow ray temporal flyte zenml langgraph
# Those whose figures `make test` compares with the documents.
TESTED_EXAMPLES := agent celery
EXAMPLE_ARGS ?=
E2E := tests/e2e
BENCH := tests/bench
FUZZ := tests/fuzz
CLIENT := clients/python
CLIENT_VENV := .tools/client
PYTHON_CODE := stack $(E2E) $(BENCH) $(FUZZ) $(CLIENT) examples tests/examples tests/compose

.PHONY: help run up down status test test-rust test-e2e test-client test-examples test-compose example-metaflow examples $(EXAMPLES:%=example-%) envoy-files soak fuzz bench bench-quick release lint fmt clean python rack

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: python ## build, start everything, show the main job once, stay until Ctrl-C
	@exec $(PYTHON) -m stack run

up: python ## the same stack in the background
	@exec $(PYTHON) -m stack up

down: python ## drain it and end it
	@exec $(PYTHON) -m stack down

status: python ## what of it runs
	@exec $(PYTHON) -m stack status

test: lint test-rust test-e2e test-client test-examples ## all tests

test-rust: ## the workspace's own tests
	cargo test --workspace

test-e2e: $(VENV)/.installed $(E2E)/node/node_modules/.installed rack ## real SDKs on the Envoy as shipped, the gate on the oldest too (PYTEST_ARGS="-k …" or "--envoy oldest" is one run of that)
ifeq ($(PYTEST_ARGS),)
	$(VENV)/bin/python -m pytest $(E2E) $(AT_ONCE)
	$(VENV)/bin/python -m pytest $(E2E) $(AT_ONCE) --envoy oldest -m gate
else
	$(VENV)/bin/python -m pytest $(E2E) $(PYTEST_ARGS)
endif

test-client: $(CLIENT_VENV)/.installed ## the Python client against a real stack (PYTEST_ARGS="-k …" picks some)
	$(CLIENT_VENV)/bin/python -m pytest $(CLIENT)/tests $(PYTEST_ARGS)

example-metaflow: $(METAFLOW_VENV)/.installed ## Metaflow and Stripe's SDK in every hazard, without Keybrake and with it (EXAMPLE_ARGS=--json)
	@PYTHONPATH=$(METAFLOW):. exec $(METAFLOW_VENV)/bin/python -m hazards $(EXAMPLE_ARGS)

examples: $(EXAMPLES:%=.tools/examples/%/.installed) ## the same for agents and other orchestrators, one table; make example-NAME is one of them
	@exec $(PYTHON) -m examples.runner $(EXAMPLES) -- $(EXAMPLE_ARGS)

$(EXAMPLES:%=example-%): example-%: .tools/examples/%/.installed
	@exec $(PYTHON) -m examples.runner $* -- $(EXAMPLE_ARGS)

test-examples: $(VENV)/.installed $(METAFLOW_VENV)/.installed $(TESTED_EXAMPLES:%=.tools/examples/%/.installed) ## every row of the examples' tables
	$(VENV)/bin/python -m pytest tests/examples $(PYTEST_ARGS)

test-compose: python ## deploy/compose as it is, in a Docker engine of its own (Linux, root; installs docker.io if missing)
	@exec $(PYTHON) tests/compose/run.py

soak: $(VENV)/.installed ## 200 pairs of crashes from a seed (KEYBRAKE_CRASH_SEED repeats one), 300 sequences on the ledger's model
	KEYBRAKE_MODEL_CASES=$${KEYBRAKE_MODEL_CASES:-300} KEYBRAKE_MODEL_SEED=$${KEYBRAKE_MODEL_SEED:-random} \
		cargo test -p keybrake-ledger --lib -- --nocapture the_ledger_does_what_the_model_does what_overlaps_answers
	KEYBRAKE_CRASH_PAIRS=$${KEYBRAKE_CRASH_PAIRS:-200} $(VENV)/bin/python -m pytest $(E2E) -k test_two_parts_that_die $(PYTEST_ARGS)

fuzz: $(VENV)/.installed rack ## bodies against other readers, then a million streams (KEYBRAKE_FUZZ_SECONDS, KEYBRAKE_STREAMS, KEYBRAKE_SEED)
	$(VENV)/bin/python $(FUZZ)/differential.py --keep --seconds $${KEYBRAKE_FUZZ_SECONDS:-300} $${KEYBRAKE_SEED:+--seed $$KEYBRAKE_SEED}
	KEYBRAKE_SEED=$${KEYBRAKE_SEED:-$$RANDOM$$RANDOM} KEYBRAKE_SEEDS=$${KEYBRAKE_SEEDS:-5000} cargo test --profile host -p keybrake-tests --test filter_random -- --nocapture
	KEYBRAKE_STREAMS=$${KEYBRAKE_STREAMS:-1000000} cargo test --profile host -p keybrake-tests --test filter_memory -- --nocapture

bench: python ## measure gate and ledger beside their yardsticks, a million keys too (15 minutes); writes target/bench.json
	@exec $(PYTHON) $(BENCH)/bench.py

bench-quick: python ## the same in under 90 seconds, once everything is built
	@exec $(PYTHON) $(BENCH)/bench.py --quick

envoy-files: python ## write envoy/full.yaml and envoy/xds from the template
	@exec $(PYTHON) -m stack.envoy_files

release: $(VENV)/.installed ## filter and ledger, their SBOMs, checksums and an OCI layout in dist/; the filter is built twice in different folders and compared
	@exec $(VENV)/bin/python -m stack.release --check

lint: $(VENV)/.installed ## formatting, clippy, types
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	$(VENV)/bin/ruff format --check $(PYTHON_CODE)
	$(VENV)/bin/ruff check $(PYTHON_CODE)
	$(VENV)/bin/mypy $(filter-out $(CLIENT),$(PYTHON_CODE))
	$(VENV)/bin/mypy $(CLIENT)

fmt: $(VENV)/.installed ## format the code
	cargo fmt --all
	$(VENV)/bin/ruff format $(PYTHON_CODE)
	$(VENV)/bin/ruff check --fix $(PYTHON_CODE)

clean: ## remove what was built and fetched; the run folder stays
	cargo clean
	rm -rf .tools $(E2E)/node/node_modules

python:
	@command -v $(PYTHON) >/dev/null || { echo "keybrake: $(PYTHON) is missing: install Python 3.9 or newer" >&2; exit 1; }

rack:
	@ruby -e 'require "rack"' 2>/dev/null || { echo "keybrake: Ruby with rack is missing (Debian: ruby-rack): the tests compare readers with it" >&2; exit 1; }

$(VENV)/.installed: $(E2E)/requirements.txt | python
	@mkdir -p .tools
	@$(PYTHON) -m venv $(VENV) || { echo "keybrake: python3-venv is missing: the tests need it" >&2; exit 1; }
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -r $(E2E)/requirements.txt
	@$(VENV)/bin/pip check --disable-pip-version-check
	@touch $@

$(CLIENT_VENV)/.installed: $(CLIENT)/tests/requirements.txt | python
	@mkdir -p .tools
	@$(PYTHON) -m venv $(CLIENT_VENV) || { echo "keybrake: python3-venv is missing: the tests need it" >&2; exit 1; }
	$(CLIENT_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -r $(CLIENT)/tests/requirements.txt
	@$(CLIENT_VENV)/bin/pip check --disable-pip-version-check
	@touch $@

.tools/examples/%/.installed: examples/%/requirements.txt $(shell find $(CLIENT)/src $(CLIENT)/pyproject.toml -name '*.py' -o -name '*.toml') | python
	@mkdir -p $(@D)
	@$(PYTHON) -m venv $(@D) || { echo "keybrake: python3-venv is missing: the example needs it" >&2; exit 1; }
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall ./$(CLIENT)
	@$(@D)/bin/pip check --disable-pip-version-check
	@touch $@

$(E2E)/node/node_modules/.installed: $(E2E)/node/package-lock.json
	@command -v npm >/dev/null || { echo "keybrake: node and npm are missing: the tests of Stripe's Node SDK need them" >&2; exit 1; }
	cd $(E2E)/node && npm ci --no-audit --no-fund --loglevel=error
	@touch $@
