# The venv of README.md's "Test it" has all that is needed: `make check` before every commit.
PYTHON ?= .venv/bin/python
BIN := $(dir $(PYTHON))

.PHONY: check format lint test fast docs views mutation chaos bench

check: lint test

lint:
	$(BIN)ruff format --check .
	$(BIN)ruff check .
	$(BIN)mypy
	$(BIN)lint-imports --no-logo

format:
	$(BIN)ruff format .
	$(BIN)ruff check --fix .

test:
	$(PYTHON) -m pytest

# Without what takes over a quarter of a second a test.
fast:
	$(PYTHON) -m pytest -q -m 'not slow'

# What follows from the code: docs/reference, and the state machine in docs/concepts.md. A test says when it must be run.
docs:
	$(PYTHON) -m docs

# The pictures in the README, recorded from the program as it is now.
views:
	$(PYTHON) -m docs.views

# The release run: seeded and resumable; hours. The small one is part of .ci/run.
chaos:
	$(PYTHON) -m tests.chaos --release

# Breaks the store in one place after another, each on a copy: the contract suite must find every one. Ten minutes.
mutation:
	$(PYTHON) -m tests.mutation

bench:
	$(PYTHON) -m bench
