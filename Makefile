# make demo | down | test (lint, unit, e2e) | matrix | chaos | bench | bench-changes | bench-backup | bench-restore | bench-examine | clean
PYTHON ?= /usr/bin/python3
VENV   := .venv
BIN    := $(VENV)/bin
LAB    := test/lab/lab

.PHONY: help demo down test unit lint e2e matrix chaos bench bench-changes bench-backup bench-restore bench-examine clean venv

help:
	@sed -n '1p' Makefile | sed 's/^# /targets: /'

venv: $(VENV)/ready

$(VENV)/ready: pyproject.toml test/venv
	@test/venv $(PYTHON) $(VENV)

demo:
	@test/demo

down:
	@$(LAB) down

unit: venv
	$(BIN)/python -m pytest test/unit test/functional -n auto --dist loadfile

lint: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	find etcd_ha -name '*.sls' -print0 | xargs -0 -r $(BIN)/salt-lint

e2e: venv
	$(BIN)/python -m pytest test/e2e -v --durations=25

matrix: venv
	$(BIN)/python test/e2e/matrix.py

# A fault campaign: make chaos SEED=4711 MINUTES=60, or CHAOS="--operations 12 --faults cut,power"
chaos: venv
	$(BIN)/python test/chaos/campaign.py $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(CHAOS)

bench: venv
	$(BIN)/python test/bench/bench.py

bench-changes: venv
	$(BIN)/python test/bench/changes.py

bench-backup: venv
	$(BIN)/python test/bench/backup.py

bench-restore: venv
	$(BIN)/python test/bench/restore.py

# Damaged data of each line of etcd: make bench-examine EXAMINE="--size 2000 --seed 7 --lines 3.6"
bench-examine: venv
	$(BIN)/python test/bench/examine.py $(EXAMINE)

test: lint unit e2e

clean:
	rm -rf $(VENV)
