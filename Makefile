PYTHON ?= python3
VENV ?= .venv
# The JAX to test with, as 0.10.2, and the tests to run: the newest that there is, and all.
JAX ?=
TESTS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.test$(JAX)

.PHONY: demo test environment checks types suite test-browser test-emulated docs

demo: $(VENV)/.demo
	$(BIN)/python examples/digits.py

test: checks types suite

environment: $(STAMP)

checks: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

# JAX's own annotations differ between versions: those of the oldest are the ones checked.
types: $(STAMP)
	@if $(BIN)/python -c 'import jax, sys; sys.exit(jax.__version_info__ < (0, 11))'; then \
		echo "make: types are NOT CHECKED here, but with Python 3.11 and JAX=0.10.2"; \
	else $(BIN)/basedpyright --pythonpath $(BIN)/python; fi

suite: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(TESTS)

test-browser: $(STAMP)
	$(BIN)/python -m pytest -m browser tests/view

test-emulated: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m emulated

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

# A half-made environment, as Debian without python3-venv leaves one, must not pass for a whole one.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "recurrax needs Python 3.11 or newer; '$(PYTHON)' is not. Try: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -f $(VENV)/bin/python; exit 1; }

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[plot]' scikit-learn
	touch $@

$(STAMP): pyproject.toml | $(VENV)/bin/python
	rm -f $(VENV)/.test*
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]' $(JAX:%=jax==%)
	touch $@ $(VENV)/.demo

$(VENV)/.docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[plot,docs]'
	touch $@
