# make demo | test | lint | bench | down | clean
PYTHON ?= /usr/bin/python3
VENV   := .venv
BIN    := $(VENV)/bin
LAB    := test/lab/lab

.PHONY: help demo down test unit lint bench clean venv

help:
	@sed -n '1p' Makefile | sed 's/^# /targets: /'

venv: $(VENV)/ready

$(VENV)/ready: pyproject.toml test/venv
	@test/venv $(PYTHON) $(VENV)

unit: venv
	$(BIN)/python -m pytest test/unit test/functional

lint: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	find etcd_ha pillar -name '*.sls' -print0 | xargs -0 -r $(BIN)/salt-lint

test: lint unit

clean:
	rm -rf $(VENV)
