# Two commands do everything: `make demo` runs consecutive nights through a real Airflow, `make test` runs the tests.
# Each sets up what it needs. Another Python than the system's: make PYTHON=python3.12 demo

PYTHON ?= python3
AIRFLOW_PYTHON := .venv/airflow/bin/python
ML_PYTHON := .venv/ml/bin/python
LINT := .venv/lint/bin

.DEFAULT_GOAL := help
.PHONY: help demo up test test-containers test-hosts chaos bench docs lint reference setup setup-dev lock clean

help:  ## list the targets, from the comments behind them
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup  ## run six nights of real taxi data through Airflow, offline: four released, two held
	@$(AIRFLOW_PYTHON) -m local.demo

up: setup  ## run Airflow and a model server in the foreground, for a person
	@$(AIRFLOW_PYTHON) -m local.up

test: setup-dev lint  ## run every test but the campaigns; both sides' summaries stand at the end
	@bin/test

test-containers:  ## build the image and run a night in docker compose; without an engine: as root on Debian
	@$(PYTHON) -m tests.containers $(ARGS)

test-hosts: setup-dev  ## run nights over two hosts that share no disk (hours; root); ARGS='-m "not campaign"' for less
	@$(AIRFLOW_PYTHON) -m pytest tests/hosts $(ARGS)

chaos: setup-dev  ## run whole nights under faults (hours); fewer: make chaos ARGS="--faults 20 --seed 7"
	@$(AIRFLOW_PYTHON) -m tests.chaos $(ARGS)

bench: setup-dev  ## measure beside TFX (two hours); some: ARGS="training start"; small: ARGS=--quick
	@$(ML_PYTHON) -m benchmarks $(ARGS)

docs:  ## build the documentation as a site, in var/site
	@$(PYTHON) -m setup docs
	@.venv/docs/bin/zensical build --strict

lint: setup-dev  ## check style, imports between rooms, and types; .pre-commit-config.yaml has the same checks
	@$(LINT)/ruff check .
	@$(LINT)/ruff format --check .
	@$(LINT)/lint-imports --no-logo --no-cache
	@$(LINT)/mypy

reference: setup  ## write docs/reference/ anew from the code
	@$(ML_PYTHON) -m local.reference

setup:  ## create or update both environments, from the locks
	@$(PYTHON) -m setup airflow ml

setup-dev:  ## the same, with the tools of tests and lint
	@$(PYTHON) -m setup airflow ml dev lint

lock:  ## write the requirements files anew from pyproject.toml; UPGRADE=1 takes newer versions
	@$(PYTHON) -m setup lock

clean:  ## delete all state, var/; the environments stay
	rm -rf var
