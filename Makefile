# A thin wrapper around pip and `ekiden`; the README says the same in plain commands.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Options for `make up`, as in: make up ARGS="--workers 2"
ARGS ?=
# How many processes run tests: more than there are cores, since most tests wait for other processes most of the time.
TEST_PROCESSES ?= 3
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: help up install test lint bench fuzz chaos soak screenshots clean

help:
	@echo "make up       install what is missing, then serve on http://127.0.0.1:8000 (ARGS=\"--workers 2 --model …\")"
	@echo "make install  install, and fetch the default model, without serving"
	@echo "make test     lint, types, import rules and all tests"
	@echo "make bench    benchmarks; each ends with a line of JSON"
	@echo "make fuzz     the long random tests"
	@echo "make chaos    half an hour of faults under load; writes the table of docs/reliability.md"
	@echo "make soak     an hour of load (SOAK_ARGS=\"--minutes 5\"); memory and the store must stay as they are"
	@echo "make screenshots   takes the dashboard's pictures anew, in a quarter of an hour; needs chromium"
	@echo "make clean    remove the environment and caches of this folder"

up: $(VENV)/.installed
	@exec $(BIN)/ekiden up $(ARGS)

install: $(VENV)/.installed
	@$(BIN)/python -m ekiden_worker.fetch
	@echo "Installed. Serve with: make up"

# Folder by folder, and a file in one process, which makes its fixtures once. The real model is for itself: its threads
# wait for each other, so with others on their cores it takes eight times as long.
test: $(VENV)/.installed-dev lint
	@failed=; $(BIN)/python -m pytest -m "not model" -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder || failed=1; \
	$(BIN)/python -m pytest -m model || failed=1; [ -z "$$failed" ]

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev
	@for file in tests/benchmarks/bench_*.py; do \
	    name=$$(basename $$file .py); echo "== $$name"; $(BIN)/python -m tests.benchmarks.$$name || failed=1; \
	done; [ -z "$$failed" ]

fuzz: $(VENV)/.installed-dev
	EKIDEN_TEST_STORE_STEPS=120000 $(BIN)/python -m pytest --timeout 3600 tests/integration/test_store_model.py
	EKIDEN_TEST_ROUNDS=1000000 EKIDEN_TEST_EXAMPLES=5000 $(BIN)/python -m pytest --timeout 7200 \
	    tests/unit/text tests/unit/prompts tests/unit/memory tests/unit/test_feed.py tests/unit/engine/test_random.py
	EKIDEN_TEST_ANSWER_TOKENS=128 $(BIN)/python -m pytest --timeout 7200 tests/e2e/test_exact.py

chaos: $(VENV)/.installed-dev
	$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

soak: $(VENV)/.installed-dev
	$(BIN)/python -m tests.soak $(SOAK_ARGS)

screenshots: $(VENV)/.installed-dev
	$(BIN)/python -m tests.screenshots $(SCREENSHOTS_ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --editable '.[all]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "Ekiden needs Python 3.11 or newer; there is no $(PYTHON)."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Ekiden needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "creating $(VENV) …"
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
