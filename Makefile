# Two commands for a newcomer: `make demo` and `make test`. Both build .venv first when it is missing or stale.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-core check bench golden lock

VENV := .venv
BIN := $(VENV)/bin
# The stamp carries the checksum of what was installed, so that an edited lock or setup.py installs anew.
STAMP := $(VENV)/.installed-$(shell cat requirements.lock setup.py | cksum | cut -d' ' -f1)
# A name on the PATH may be a version manager's shim that cannot start: each is asked for its version.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3 python; do \
	"$$name" -c '$(SUPPORTED)' >/dev/null 2>&1 && { echo "$$name"; break; }; done)
UV := $(shell uv --version >/dev/null 2>&1 && echo uv)

help:
	@echo "make setup      build .venv from requirements.lock (uv if it is there, pip otherwise)"
	@echo "make demo       prepare the chorales, train a small model, evaluate it, sample from it"
	@echo "make test       the tests that CI runs; test-all adds the slow ones"
	@echo "make test-core  the core's tests on another Python: make test-core PYTHON=python3.13"
	@echo "make check      ruff, mypy and the walls between the packages"
	@echo "make bench      the measurements of benchmarks/"
	@echo "make golden     rewrite the golden files of the tests, on purpose"
	@echo "make lock       resolve requirements.in into requirements.lock"

setup: $(STAMP)

$(STAMP):
	@test -n "$(PYTHON)" || { echo "make: Python 3.11, 3.12 or 3.13 is needed and none is on the PATH." \
		"Install one ('uv python install 3.11' does) or name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c '$(SUPPORTED)' || { echo "make: $(PYTHON) is not Python 3.11, 3.12 or 3.13" >&2; exit 1; }
ifeq ($(UV),uv)
	@$(BIN)/python -c '$(SUPPORTED)' 2>/dev/null || uv venv --quiet --clear --python "$(PYTHON)" $(VENV)
	VIRTUAL_ENV=$(VENV) uv pip sync --quiet --require-hashes requirements.lock
	VIRTUAL_ENV=$(VENV) uv pip install --quiet --no-deps --no-build-isolation --editable .
else
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@echo "pip installs 3 GB of packages: this takes some minutes"
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
endif
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: setup
	$(BIN)/python examples/demo.py

test: setup
	$(BIN)/pytest -m "not slow"

test-all: setup
	$(BIN)/pytest

test-core:
	sh tests/core.sh "$(PYTHON)"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python benchmarks/run.py

golden: setup
	$(BIN)/python tests/golden/regenerate.py

lock:
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-emit-package pyaudio requirements.in -o requirements.lock
