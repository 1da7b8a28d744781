# Everything that is done with Foretell, from a fresh clone on. `make` alone lists the targets.
#
# Needs GNU make 3.81 and Python 3.11 with pip and venv, nothing else. Another Python: `make clean`, then
# `make run PYTHON=python3.13`.

PYTHON ?= python3
# Processes that run tests, each a file at a time; one: make test TESTERS=0.
TESTERS ?= 3
VENV := .venv
BIN := $(VENV)/bin

# Writes the lock files, and installs them sooner than pip would. One release of it, so that a lock file changes only
# when a dependency does.
UV := uv==0.13.9
INSTALL_UV = $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: $(UV)
COMPILE = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make $@" --quiet $(ARGS)
# Systems that the benchmarks measure beside Foretell, each installed on demand into .venv-bench, with the same releases of
# what a model is stored with.
PEERS := $(basename $(wildcard benchmarks/environments/*.in))
STORED_WITH := scikit-learn|joblib|numpy|scipy

# Not among the dependencies, since it needs packages that nothing else does. --strict: else it passes over what it cannot look up.
AUDIT := pip-audit==2.10.1

DASHBOARD := deploy/monitoring/grafana/dashboards/foretell.json

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run tracing test test-rabbitmq fuzz chaos browser prometheus rabbitmq screenshots check format bench bench-quick bench-batch bench-training bench-restart docs lock lock-bench audit clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' Makefile

run: $(VENV)/requirements.installed ## Start Foretell: Redis, API, workers and scheduler; Ctrl-C stops it
	@exec $(BIN)/python -m deploy

tracing: $(VENV)/requirements-tracing.installed ## Install what FORETELL_TRACING=true needs beside the service

test: $(VENV)/requirements-dev.installed ## Run the tests; a part of them: make test ARGS=tests/unit
	@$(BIN)/python -m pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder $(ARGS)

# Where processes are killed, halted and restarted, and what crosses the broker.
THROUGH_BROKER := tests/integration/test_crashes.py tests/integration/test_batch_crashes.py \
	tests/integration/test_training_crashes.py tests/integration/test_orderly_stop.py \
	tests/integration/test_stuck_process.py tests/integration/test_clocks.py tests/integration/test_webhooks.py \
	tests/integration/test_batch_accidents.py tests/system/test_stop.py tests/system/test_restart.py \
	tests/system/test_cancel.py tests/system/test_retrain.py tests/system/test_broker.py tests/system/test_chaos.py

test-rabbitmq: $(VENV)/requirements-dev.installed ## Run the crash tests with messages through a RabbitMQ; a part: ARGS=FILE
	@TEST_BROKER=rabbitmq $(BIN)/python -m pytest $(or $(ARGS),$(THROUGH_BROKER))

# So many times as many examples as `make test` tries, and random ones.
TIMES ?= 20

fuzz: $(VENV)/requirements-dev.installed ## Try parsers and routes with many random inputs; longer: make fuzz TIMES=100
	@FUZZ_TIMES=$(TIMES) $(BIN)/python -m pytest $(or $(ARGS),tests/fuzz)

chaos: $(VENV)/requirements-dev.installed ## Break everything at random under load; longer: make chaos ARGS='--seconds 600 --seed 7'
	@$(BIN)/python -m tests.chaos $(ARGS)

browser: ## Install the Chromium that the tests of the pages use; needs apt-get, and root or sudo
	@.ci/browser

prometheus: ## Unpack the Prometheus that the tests of alerts and dashboard use; needs apt-get
	@.ci/prometheus

rabbitmq: ## Install the RabbitMQ that tests of the broker use; needs apt-get, and root or sudo
	@.ci/rabbitmq

screenshots: $(VENV)/requirements-dev.installed ## Take the pictures of docs/dashboard.md anew; needs a Chromium
	@$(BIN)/python -m tests.browser.screenshots $(ARGS)

check: $(VENV)/requirements-dev.installed ## Lint, formatting, types and import contracts, in seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/requirements-dev.installed ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/requirements-dev.installed ## Measure Foretell beside its neighbours, and write docs/benchmarks.md; hours
	@$(BIN)/python -m benchmarks --json benchmarks/results/bench.json --page $(ARGS)

bench-quick: $(VENV)/requirements-dev.installed ## The same for the most important ones, in minutes
	@$(BIN)/python -m benchmarks --quick --json benchmarks/results/bench-quick.json --page $(ARGS)

bench-batch: $(VENV)/requirements-dev.installed ## Measure batch files beside a hand-written script and naive set-ups
	@$(BIN)/python -m benchmarks.batch $(ARGS)

bench-training: $(VENV)/requirements-dev.installed ## Measure a search with one and two worker processes
	@$(BIN)/python -m benchmarks.training $(ARGS)

bench-restart: $(VENV)/requirements-dev.installed ## Measure what clients see while every process is restarted
	@$(BIN)/python -m benchmarks.restart $(ARGS)

docs: $(VENV)/requirements-dev.installed ## Write docs/configuration.md, the tables of metrics and of the chart, the Grafana dashboard, and the documents as a site into site/
	@$(BIN)/python -m shared.settings > docs/configuration.md.new
	@mv docs/configuration.md.new docs/configuration.md
	@$(BIN)/python -m shared.metrics < docs/metrics.md > docs/metrics.md.new
	@mv docs/metrics.md.new docs/metrics.md
	@$(BIN)/python -m deploy.monitoring > $(DASHBOARD).new
	@mv $(DASHBOARD).new $(DASHBOARD)
	@$(BIN)/python -m docs.chart
	@$(BIN)/python -m docs.pages site

lock: $(BIN)/python ## Write the lock files from pyproject.toml; newest releases: make lock ARGS=--upgrade
	@$(INSTALL_UV)
	$(COMPILE) pyproject.toml --output-file requirements.txt
	$(COMPILE) pyproject.toml --extra tracing --constraint requirements.txt --output-file requirements-tracing.txt
	$(COMPILE) pyproject.toml --extra dev --extra tracing --constraint requirements-tracing.txt --output-file requirements-dev.txt

lock-bench: $(BIN)/python ## Write the lock files of the measured peers; newest releases: make lock-bench ARGS=--upgrade
	@$(INSTALL_UV)
	@mkdir -p .venv-bench
	@sed -nE '/^($(STORED_WITH))==/s/ \\$$//p' requirements.txt > .venv-bench/models.txt
	@for peer in $(PEERS); do $(COMPILE) $$peer.in --constraint .venv-bench/models.txt --output-file $$peer.txt \
		|| exit 1; done

audit: $(BIN)/python ## Look up known vulnerabilities of the locked dependencies, at osv.dev; needs the Internet
	@$(INSTALL_UV)
	@$(BIN)/uv tool run --quiet --from $(AUDIT) pip-audit --strict --vulnerability-service osv --disable-pip \
		--requirement requirements-tracing.txt $(ARGS)

clean: ## Remove .venv, .venv-bench and all caches; ./var with its jobs and models stays
	rm -rf $(VENV) .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache site
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { echo "Foretell needs Python 3.11" \
		"or newer; $(PYTHON) is older or missing. To use another: make run PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)

# Developers have the client too, from client/ itself.
$(VENV)/requirements-dev.installed: client/pyproject.toml

# The stamp is written last: an interrupted installation is taken up again.
$(VENV)/%.installed: %.txt | $(BIN)/python
	@echo "Installing $< into $(VENV)"
	@$(INSTALL_UV) \
		&& $(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --require-hashes --requirements $< \
		|| { echo "uv could not install it, pip tries" >&2; \
			$(BIN)/python -m pip install --disable-pip-version-check --require-hashes --requirement $<; }
	@$(if $(findstring dev,$*),$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation --editable client)
	@touch $@
