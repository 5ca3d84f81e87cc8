# One door: 'make demo' shows what Byre is for, 'make test' is what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_WORKERS ?= auto

.PHONY: help demo test lint bench fuzz clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 16

# Two states of one environment: .runtime has what the program needs, .ready also what tests and lint need.
$(BIN)/.runtime: pyproject.toml tools/make-venv.sh
	@PYTHON="$(PYTHON)" sh tools/make-venv.sh $(VENV) run
	@touch $@

$(BIN)/.ready: pyproject.toml tools/make-venv.sh
	@PYTHON="$(PYTHON)" sh tools/make-venv.sh $(VENV) dev
	@touch $(BIN)/.runtime $@

demo: $(BIN)/.runtime ## see what Byre is for, on a copy of a real image in ./demo
	@$(BIN)/python tools/demo.py

test: $(BIN)/.ready ## the environment, the oracle tools, then the whole suite
	@sh tools/oracle-tools.sh
	@sh tools/linux-guest.sh
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS)

lint: $(BIN)/.ready ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BIN)/.ready ## Byre against qemu-img, into bench/runs/ (BENCH=--quick for a smoke run)
	$(BIN)/python bench/run.py $(BENCH)
	$(BIN)/python bench/guests.py $(filter --quick,$(BENCH))
	$(BIN)/python bench/audit.py $(filter --quick,$(BENCH))
	$(BIN)/python bench/slim.py $(filter --quick,$(BENCH))

FUZZ_CASES ?= 20000
fuzz: $(BIN)/.ready ## the fuzz suites with many more cases (FUZZ_CASES=20000)
	BYRE_FUZZ_CASES=$(FUZZ_CASES) $(BIN)/python -m pytest -n $(PYTEST_WORKERS) -m fuzz --timeout 3600

clean: ## what make made
	rm -rf $(VENV) demo bench/work .oracle
