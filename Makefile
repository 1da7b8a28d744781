# Everything that is done with Foretell, from a fresh clone on. `make` alone lists the targets.
#
# Needs GNU make 3.81 and Python 3.11 with pip and venv, nothing else. Another Python: `make clean`, then
# `make run PYTHON=python3.13`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Writes the lock files, and installs them sooner than pip would. One release of it, so that a lock file changes only
# when a dependency does.
UV := uv==0.13.9
INSTALL_UV = $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: $(UV)
COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" --quiet $(ARGS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check format bench bench-batch bench-training docs lock clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' Makefile

run: $(VENV)/requirements.installed ## Start Foretell: Redis, API, workers and scheduler; Ctrl-C stops it
	@exec $(BIN)/python -m deploy

test: $(VENV)/requirements-dev.installed ## Run the tests; a part of them: make test ARGS=tests/unit
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/requirements-dev.installed ## Lint, formatting, types and import contracts, in seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/requirements-dev.installed ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/requirements-dev.installed ## Measure online predictions beside the plain tutorial set-up
	@$(BIN)/python -m benchmarks.online $(ARGS)

bench-batch: $(VENV)/requirements-dev.installed ## Measure batch files beside a hand-written script and naive set-ups
	@$(BIN)/python -m benchmarks.batch $(ARGS)

bench-training: $(VENV)/requirements-dev.installed ## Measure a search with one and two worker processes
	@$(BIN)/python -m benchmarks.training $(ARGS)

docs: $(VENV)/requirements.installed ## Write docs/configuration.md from the settings in the code
	@$(BIN)/python -m shared.settings > docs/configuration.md.new
	@mv docs/configuration.md.new docs/configuration.md

lock: $(BIN)/python ## Write the lock files from pyproject.toml; newest releases: make lock ARGS=--upgrade
	@$(INSTALL_UV)
	$(COMPILE) --output-file requirements.txt
	$(COMPILE) --extra dev --constraint requirements.txt --output-file requirements-dev.txt

clean: ## Remove .venv and all caches; ./var with its jobs and models stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { echo "Foretell needs Python 3.11" \
		"or newer; $(PYTHON) is older or missing. To use another: make run PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)

# The stamp is written last: an interrupted installation is taken up again.
$(VENV)/%.installed: %.txt | $(BIN)/python
	@echo "Installing $< into $(VENV)"
	@$(INSTALL_UV) \
		&& $(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --require-hashes --requirements $< \
		|| { echo "uv could not install it, pip tries" >&2; \
			$(BIN)/python -m pip install --disable-pip-version-check --require-hashes --requirement $<; }
	@touch $@
