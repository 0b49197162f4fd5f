# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: run test test-all lint figures clean
.DEFAULT_GOAL := help

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

run: $(VENV)/installed ## install into .venv and search a network for handwritten digits
	$(BIN)/caviar run experiments/digits.py --report

test: $(VENV)/installed-dev ## install into .venv, check the code, run the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q -n 2 --dist loadfile

test-all: $(VENV)/installed-dev ## the slow suites: kills, endurance, browsers and databases (Debian's chromium, postgresql)
	$(BIN)/pytest -q -m slow

figures: $(VENV)/installed-dev ## draw the figures of the README from a finished digits run
	$(BIN)/python experiments/analyse_run.py runs/digits --figures experiments/figures

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "caviar needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV): two gigabytes, some minutes the first time"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[report]'
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV): two gigabytes, some minutes the first time"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/installed

clean: ## remove what was installed (runs/ stays)
	rm -rf $(VENV)
