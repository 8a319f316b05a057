# Two commands do everything: `make demo` runs consecutive nights through a real Airflow, `make test` runs the tests.
# Each sets up what it needs. Another Python than the system's: make PYTHON=python3.12 demo

PYTHON ?= python3
AIRFLOW_PYTHON := .venv/airflow/bin/python
ML_PYTHON := .venv/ml/bin/python
export PYTHONPATH := $(CURDIR):$(CURDIR)/include:$(CURDIR)/client:$(CURDIR)/server

.PHONY: demo test test-containers chaos up bench setup setup-dev lint lock clean

demo: setup  ## nights of real taxi data through Airflow, some released, one held; offline
	@$(AIRFLOW_PYTHON) -m local.demo

up: setup  ## Airflow in the foreground, for a person
	@$(AIRFLOW_PYTHON) -m local.up

test: setup-dev lint  ## every test but the campaign of faults; both sides' summaries stand at the end
	@bin/test

test-containers:  ## build the image and run a night in docker compose; without an engine: as root on Debian
	@$(PYTHON) -m tests.containers

chaos: setup-dev  ## whole nights under faults, and what must hold (hours); fewer: make chaos ARGS="--faults 20 --seed 7"
	@$(AIRFLOW_PYTHON) -m tests.chaos $(ARGS)

bench: setup-dev  ## measure it beside TFX (an hour and a half); some: make bench ARGS="training start"; small: ARGS=--quick
	@$(ML_PYTHON) -m benchmarks $(ARGS)

lint: setup-dev
	@.venv/lint/bin/ruff check .
	@.venv/lint/bin/ruff format --check .

setup:  ## both environments, from the locks
	@$(PYTHON) setup airflow ml

setup-dev:
	@$(PYTHON) setup airflow ml dev lint

lock:  ## write the requirements files anew from pyproject.toml; UPGRADE=1 takes newer versions
	@$(PYTHON) setup lock

clean:  ## all state; the environments stay
	rm -rf var
