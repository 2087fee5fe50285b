# learngate: `make demo` and `make test` do everything on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
FUZZ_EXAMPLES ?= 100000
SOAK_MINUTES  ?= 30
BENCH         ?=
.DEFAULT_GOAL := help
.PHONY: help demo test quick format lint types imports tests notebooks fuzz soak reliability bench clean

help: ## show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(VENV)/.app ## watch an agent remember, propose, wait for you, and be better for the next user
	@$(BIN)/learngate demo

test: quick types imports tests notebooks ## everything that CI runs: format, lint, types, import rules, tests, notebook

quick: lint ## the part that takes seconds

format: $(VENV)/.dev ## rewrite the code in its one format
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(VENV)/.dev
	@$(BIN)/mypy

imports: $(VENV)/.dev
	@$(BIN)/lint-imports

tests: $(VENV)/.dev
	@$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term --cov-fail-under=90

notebooks: $(VENV)/.dev
	@$(BIN)/python -m pytest -q notebooks

reliability: $(VENV)/.dev ## break it at length on both databases, and write docs/reliability.md (half an hour)
	@$(BIN)/python -m tests.reliability

fuzz: $(VENV)/.dev ## call the stores and the gate with anything at all: FUZZ_EXAMPLES times on SQLite, a fifth on PostgreSQL
	@$(BIN)/python -m tests.fuzz --database sqlite --examples $(FUZZ_EXAMPLES)
	@$(BIN)/python -m tests.fuzz --database postgres --examples $$(($(FUZZ_EXAMPLES) / 5))

bench: $(VENV)/.bench ## measure speed and recall beside Agno, langmem and LangGraph's stores; write docs/speed.md and its plots (20 minutes)
	@$(BIN)/python -m bench.starting
	@$(BIN)/python -m bench.overhead --many $(BENCH)
	@$(BIN)/python -m bench.search
	@$(BIN)/python -m bench.growth
	@$(BIN)/python -m bench.recall
	@$(BIN)/python -m bench.memories
	@$(BIN)/python -m bench.plots

soak: $(VENV)/.dev ## look for new examples of every law, on both databases, for SOAK_MINUTES
	@$(BIN)/python -m tests.soak $(SOAK_MINUTES)

clean: ## remove what was built
	@rm -rf $(VENV) build *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "learngate needs Python 3.11 or newer; $(PYTHON) is older: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "making $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.app: $(VENV)/.python pyproject.toml
	@echo "installing learngate (about a minute) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml
	@echo "installing learngate with what its tests need (about two minutes) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.app

$(VENV)/.bench: $(VENV)/.dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@
