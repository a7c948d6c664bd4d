# One command for each thing a contributor does. Every target works on a fresh checkout with Python 3.11+, make and the package registries.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

WORKERS ?= auto
TEST = $(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal

# What runs with it takes the compiled modules, and a test fails if one of them is not compiled.
COMPILED = BROADSHEET_CODE=compiled PYTHONPATH=$(CURDIR)/build/compiled

# Locks hold for every Python and platform that pyproject.toml allows, and name no registry.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade)

.DEFAULT_GOAL := help
.PHONY: help install quickstart check test compiled test-compiled e2e e2e-all bench scale simulate kubernetes lint generate locks pictures dashboard-pictures docs clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: $(STAMP) ## make .venv with everything a contributor needs

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else f"Broadsheet needs Python 3.11 or later; this is {v[0]}.{v[1]}. Use make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP)

quickstart: install $(if $(FAST),compiled) ## a Kafka on localhost:9092 with the topic `orders`; ONCE=1 ends after the demonstration, FAST=1 compiles it first
	$(if $(FAST),$(COMPILED)) $(BIN)/broadsheet quickstart $(if $(ONCE),--once)

check: lint ## what to run before each commit: the linters, and all tests but those marked `slow`
	$(TEST) -m 'not slow' $(ARGS)

test: install ## all unit, property, simulation and wire tests, on all cores: Python only
	$(TEST) --durations=15 --durations-min=5 $(ARGS)

compiled: install ## the broker's hot modules compiled (mypyc) into build/compiled, never beside the source; needs a C compiler
	@$(BIN)/python tools/compiled.py >/dev/null

test-compiled: compiled ## the same tests on the compiled modules; ARGS='tests/log' for a few
	$(COMPILED) $(TEST) --durations=15 --durations-min=5 $(ARGS)

e2e: install ## real clients, Apache Kafka's own tools
	bash e2e/run $(ARGS)

e2e-all: install ## what takes too long for each change: more seeds, long faults, half an hour at rest, kind; it says what it runs
	bash e2e/all

bench: install ## beside Apache Kafka, alternating, as ratios: docs/benchmarks.md; ARGS='core --quick --only p16k' for one row
	$(BIN)/python -m e2e.bench $(ARGS)

scale: install ## how far one operator and three brokers go: docs/scale.md; half an hour
	$(BIN)/python -m e2e.scale $(ARGS)

kubernetes: install ## a Kubernetes of three nodes with the operator's images, and a shell in it; needs root, or docker and kind
	@bash e2e/run --prepare-kubernetes
	$(BIN)/python -m e2e.operator.providers

simulate: install ## whole clusters under a virtual clock, with faults: SEEDS=1..500 or a count, BROKERS=3, VERBOSE=1, SHRINK=1
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),200) --brokers $(or $(BROKERS),1) $(if $(VERBOSE),--verbose) $(if $(SHRINK),--shrink)

lint: install ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@! test -e operator/__init__.py || { echo "operator/__init__.py: with it, operator/ could hide the standard library's module" >&2; exit 1; }

generate: install ## what is made from tables and models: messages, crds/, dashboards, alerts, docs/reference, argocd-cm and the pictures; tests fail when it is stale
	$(BIN)/python tools/messages/generate.py
	$(BIN)/python -m broadsheet_operator.api.crd
	$(BIN)/python tools/metrics.py
	$(BIN)/python -m tools.dashboards
	$(BIN)/python -m tools.alerts
	$(BIN)/python tools/reference.py
	$(BIN)/python tools/argocd.py
	$(BIN)/python tools/pictures.py

locks: install ## requirements/*.lock anew from pyproject.toml: what the images install, with hashes; UPGRADE=1 for newer versions
	@mkdir -p requirements
	echo hatchling | $(LOCK) --output-file requirements/build.lock -
	printf 'mypy\nsetuptools\n' | $(LOCK) --output-file requirements/compiler.lock -
	$(LOCK) --output-file requirements/broker.lock pyproject.toml
	$(LOCK) --extra operator --output-file requirements/operator.lock pyproject.toml

pictures: install ## draw the pictures of the documentation that are new or have changed; needs npm and Debian's chromium
	$(BIN)/python tools/site_pictures.py

dashboard-pictures: install ## draw the dashboards from a real Prometheus while things happen; needs root, prometheus, chromium and pngquant
	BROADSHEET_PICTURES=docs/pictures/dashboards $(BIN)/pytest e2e/monitoring/test_story.py -s

docs: install ## build the documentation strictly into site/
	$(BIN)/mkdocs build --strict --quiet

clean: ## remove what the targets made
	rm -rf .venv site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
