# Every target sets up what it needs on a machine with python3 (3.11 or newer, with venv and pip), git and make.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
unexport PYTHONDONTWRITEBYTECODE  # tests start the program hundreds of times

PY := .venv/bin/python
WORKERS ?= 2# test processes; each starts its own servers
TESTS ?=# what to test: make test TESTS='tests/core -k window'
CONNECTORS ?=# kinds to try: make tested CONNECTORS=ldap
BENCHES ?= lifecycle expiry api ledger reconcile usage

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## one ticket's whole life on a real PostgreSQL; ARGS=--serve leaves the pages open on it
	@tools/setup demo
	@.venv/bin/muniment demo $(ARGS)

.PHONY: test
test: ## every test, against real servers (as root, installs those that are missing)
	@tools/setup
	@tools/test-servers
	$(PY) -m pytest -n $(WORKERS) --dist loadgroup --durations=15 -q $(TESTS)

.PHONY: kill
kill: ## kill -9 around sealing, 500 times on each database, and of the server under load, 200 times
	@tools/setup
	MUNIMENT_KILLS=500 $(PY) -m pytest -q -s tests/faults/test_killed_sealing.py
	MUNIMENT_KILLS=200 $(PY) -m pytest -q -s tests/api/test_killed.py

.PHONY: kube
kube: ## build a real kube-apiserver (5 to 15 minutes, once), and try the connectors of Kubernetes on it
	@tools/setup
	@tools/kube-apiserver
	$(PY) -m pytest -q tests/integration/test_kubernetes_*.py tests/conformance -k kubernetes

.PHONY: check
check: ## lint, format, types, layers, links and generated docs
	@tools/setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PY) tools/docs_drift.py

.PHONY: bench
bench: ## measure a ticket's life, mass expiry and the ledger; close other programs first
	@tools/setup
	@echo "# $$(date -u +%F), $$(nproc) processors, $$($(PY) -V), $$(uname -sr); wall-clock times, so run it twice"
	@set -e; for name in $(BENCHES); do echo "# bench/$$name.py"; $(PY) "bench/$$name.py"; done

.PHONY: docs
docs: ## write the generated pages of docs/reference again
	@tools/setup
	@$(PY) tools/docs_drift.py --write

.PHONY: tested
tested: ## try every connector on its real servers, and keep the result for the docs (CONNECTORS='ldap' for some)
	@tools/setup
	@tools/test-servers
	$(PY) tools/tested.py $(CONNECTORS)

.PHONY: clean
clean: ## remove caches and build output (.venv stays)
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
