# make demo        simulate two days of a synthetic bone and write a report
# make test        the quick checks and tests
# make check-full  all tests, the expensive statistics included
# make lint        formatting, imports between rooms, types
# make coverage    the same tests, and the lines that none of them runs
# Only make and a Python from 3.11 to 3.13 need to be there; the rest goes into .venv.

.DEFAULT_GOAL := help
.PHONY: help demo test check-full lint coverage clean
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
PYTEST := $(BIN)/python -m pytest

help:
	@sed -n 's/^# \(make \)/\1/p' Makefile

# A name on the PATH may be a shim of a version manager that only prints an error: try each.
$(BIN)/python:
	@for name in python3.13 python3.12 python3.11 python3 python; do \
	    if $$name -c 'import sys, ssl, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	        >/dev/null 2>&1 </dev/null; then found=$$name; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "No Python 3.11, 3.12 or 3.13 that can make environments was found:" \
	        "install one (Debian, Ubuntu: apt-get install python3 python3-venv)." >&2; exit 1; \
	fi; \
	echo "making $(VENV) with $$($$found --version)"; \
	$$found -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(BIN)/python
	@echo "installing osteolattice into $(VENV)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	@echo "installing osteolattice and its tools into $(VENV)"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/installed

demo: $(VENV)/installed
	@out=runs/quickstart; n=2; \
	while [ -e "$$out" ]; do out=runs/quickstart-$$n; n=$$((n + 1)); done; \
	$(BIN)/osteolattice run configs/quickstart.toml --out "$$out" && \
	$(BIN)/osteolattice report "$$out"

test: $(VENV)/installed-dev
	@$(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports --no-logo >$(VENV)/imports.txt || { cat $(VENV)/imports.txt; exit 1; }
	@$(PYTEST) -m "not full" --numprocesses 2 --dist worksteal

check-full: $(VENV)/installed-dev lint
	@$(PYTEST) --numprocesses 2 --dist worksteal

lint: $(VENV)/installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/pyright

coverage: $(VENV)/installed-dev
	@$(PYTEST) -m "not full" --numprocesses 2 --dist worksteal --cov --cov-report=term-missing:skip-covered

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
