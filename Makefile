# Everything starts from here; `make help` lists the targets. Needs Python >= 3.11 and make, nothing else.
PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
BENCH := .venv-bench
BENCHMARKS := train_step.py feed.py prepare.py scaling.py overhead.py trial_cost.py fidelity.py sampler.py pipeline_time.py "search_time.py --trials 20"
export MLFLOW_DISABLE_TELEMETRY := true
# Bytecode is kept, whatever the shell says: a stage then starts in 3 s instead of 8.
export PYTHONDONTWRITEBYTECODE :=
export PATH := $(CURDIR)/$(BIN):$(PATH)

# An environment holds absolute paths, so that of a project that was moved is made again.
ifeq ($(shell test -s $(VENV)/installed && test "$$(cat $(VENV)/installed)" != "$(CURDIR)" && echo moved),moved)
$(info the project was moved to $(CURDIR): $(VENV) is made again)
$(shell rm -rf $(VENV))
endif

.DEFAULT_GOAL := help
.PHONY: help install install-cluster install-dev install-bench repro test test-fast check stages reference format bench ui \
	dashboard lock bench-lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/installed ## .venv with what the pipeline needs, from requirements.lock

install-cluster: $(VENV)/installed-cluster ## .venv with Ray and PostgreSQL's client too, from requirements-cluster.lock

install-dev: $(VENV)/installed-dev ## .venv with the tools of development too, from requirements-dev.lock

repro: install ## the whole pipeline: prepare, search, select, retrain, evaluate, register, report
	dvc repro

test: install-dev ## all tests, the slow ones too
	pytest -n 2 --dist worksteal

test-fast: install-dev ## the tests that start no process, register no model and train for no more than a second
	pytest -n 2 -m "not slow"

check: install-dev ## format, lint, types, and the direction of imports
	ruff format --check .
	ruff check .
	mypy
	lint-imports

stages: install ## bring the code lists of dvc.yaml up to date with the imports
	python -m podium.closure

reference: install ## docs/reference/params.md and the comments of params.yaml, from the parameters' declarations
	python -m podium.config.reference_page

format: install-dev ## write the format and the lint fixes
	ruff format .
	ruff check --fix .

bench: install-bench ## the measurements behind the README's claims, on a machine that is otherwise quiet
	@for one in $(BENCHMARKS); do echo "== $$one"; $(BENCH)/bin/python benchmarks/$$one || exit 1; done

install-bench: $(BENCH)/installed ## .venv-bench with what the benchmarks compare with, from its own locked list

ui: install ## MLflow's pages on mlruns/, at http://127.0.0.1:5000; prints the address of the table of trials
	@python -m podium.tracking.view
	mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db --host 127.0.0.1 --port 5000 --workers 1

dashboard: install ## Optuna's dashboard on the study, also while it runs, at http://127.0.0.1:8080
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dashboard.lock
	optuna-dashboard --host 127.0.0.1 --port 8080 mlruns/optuna.journal

LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --upgrade \
	--custom-compile-command "make lock" pyproject.toml

lock: $(UV) ## resolve pyproject.toml again into the lock files (hashes, no addresses)
	$(LOCK) -o requirements.lock
	$(LOCK) -c requirements.lock --extra ray --extra postgres -o requirements-cluster.lock
	$(LOCK) -c requirements.lock --extra dashboard -o requirements-dashboard.lock
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --upgrade \
		--custom-compile-command "make lock" -c requirements.lock --group pyproject.toml:serve -o requirements-serve.lock
	$(LOCK) -c requirements-cluster.lock --extra ray --extra postgres --extra onnx --group dev -o requirements-dev.lock

bench-lock: $(UV) ## resolve what the benchmarks compare with, on top of requirements.lock
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command "make bench-lock" -c requirements.lock requirements.lock \
		benchmarks/peers/requirements.in -o benchmarks/peers/requirements.lock

clean: ## remove .venv and caches; data/ and mlruns/ stay
	rm -rf $(VENV) $(BENCH) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Podium needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# An installed environment is left alone: both targets then work offline. What your own code wants beyond Podium's
# packages is in requirements-own.txt, if there is one; none of Podium's gets another version by it.
$(VENV)/installed: requirements.lock pyproject.toml $(wildcard requirements-own.txt) | $(UV)
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --offline --no-deps --no-build-isolation --editable .
	@test ! -f requirements-own.txt || $(UV) pip install --quiet --python $(BIN)/python -c requirements.lock -r requirements-own.txt
	@echo '$(CURDIR)' > $@

$(VENV)/installed-cluster: requirements-cluster.lock $(VENV)/installed
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements-cluster.lock
	@touch $@

$(VENV)/installed-dev: requirements-dev.lock $(VENV)/installed
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.lock
	@touch $@

$(BENCH)/installed: benchmarks/peers/requirements.lock pyproject.toml | $(UV)
	$(UV) venv --quiet --clear --python $(BIN)/python $(BENCH)
	$(UV) pip install --quiet --python $(BENCH)/bin/python --require-hashes -r benchmarks/peers/requirements.lock
	$(UV) pip install --quiet --python $(BENCH)/bin/python --offline --no-deps --no-build-isolation --editable .
	@touch $@
