# make demo: restore a bundled clip.  make test: run the tests.  make lint: checks.
# make docs: the documentation as a website.
# Needs git, make and Python 3.11 or later; everything is installed into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check \
  --constraint constraints.txt

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint docs lock clean

help:
	@echo "make demo   install into $(VENV) and restore a bundled clip"
	@echo "make test   install into $(VENV) and run the tests"
	@echo "make lint   ruff, pyright, the rules of imports, spelling"
	@echo "make docs   build the documentation into site/, and check its links"
	@echo "make lock   write constraints.txt anew"
	@echo "make clean  delete $(VENV) and the caches"

demo: $(VENV)/.installed
	@$(BIN)/python tools/demo.py

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile \
	  --durations=10 $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/codespell -D - -D tools/words.txt

docs: $(VENV)/.installed-dev
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "site/index.html is the documentation"

lock: $(VENV)/.installed-dev
	@$(BIN)/uv pip compile pyproject.toml --extra dev --extra docs --extra hub \
	  --extra report --extra train --universal \
	  --python-version 3.11 --quiet --no-annotate --upgrade \
	  --custom-compile-command "make lock" --output-file constraints.txt

clean:
	rm -rf $(VENV) .cache .hypothesis .pytest_cache .ruff_cache site

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "error: edvr-jax needs Python 3.11 or later, and '$(PYTHON)' is older or" \
	    "missing; name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || \
	  { rm -rf $(VENV); echo "error: '$(PYTHON) -m venv' failed; install Python's venv" \
	    "module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	@echo "Installing edvr-jax into $(VENV) (a few minutes the first time)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml constraints.txt
	@echo "Installing edvr-jax and the development tools into $(VENV) (a few minutes)"
	@$(PIP) --editable '.[dev,docs,hub,report,train]'
	@touch $@ $(VENV)/.installed
