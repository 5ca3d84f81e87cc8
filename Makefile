# One door: 'make demo' shows what Byre is for, 'make test' is what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_WORKERS ?= auto

.PHONY: help demo test lint bench fuzz clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 16

$(BIN)/.ready: pyproject.toml tools/make-venv.sh
	@PYTHON="$(PYTHON)" sh tools/make-venv.sh $(VENV)
	@touch $@

test: $(BIN)/.ready ## the environment, the oracle tools, then the whole suite
	@sh tools/oracle-tools.sh
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS)

lint: $(BIN)/.ready ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BIN)/.ready ## Byre against qemu-img, into bench/runs/ (BENCH=--quick for a smoke run)
	$(BIN)/python bench/run.py $(BENCH)

clean: ## what make made
	rm -rf $(VENV) demo bench/work
