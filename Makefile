# Two commands for a newcomer: `make demo` and `make test`. Both build .venv first when it is missing or stale.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-core check bench golden lock fuzz sbom audit

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
	@echo "make fuzz       attack the readers with made-up files: make fuzz SECONDS=600 TARGET=midi|tfrecord|manifest|musicxml|jsb"
	@echo "make golden     rewrite the golden files of the tests, on purpose"
	@echo "make lock       resolve requirements.in into requirements.lock, and the tools' beside it"
	@echo "make sbom       every pinned package with its hashes, as CycloneDX: sbom.json"
	@echo "make audit      known vulnerabilities of what the locks pin; fails where nobody can be asked"

# What looks at the locks is installed apart from what it looks at.
TOOLS := .venv-tools
TOOLS_STAMP := $(TOOLS)/.installed-$(shell cat requirements-tools.lock | cksum | cut -d' ' -f1)

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

# Side by side, each file of tests in one process: a module's fixtures are made once. JOBS=0 runs them one after another.
JOBS ?= 2

test: setup
	$(BIN)/pytest -m "not slow" -n $(JOBS) --dist loadfile

test-all: setup
	@$(FUZZER) || echo "make: THE FUZZER COULD NOT BE INSTALLED: the readers are not fuzzed in these tests" >&2
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

# Only this needs it, and only some systems have it ready: it is no part of `make setup`.
ifeq ($(UV),uv)
FUZZER := VIRTUAL_ENV=$(VENV) uv pip install --quiet --require-hashes -r requirements-fuzz.lock
else
FUZZER := $(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements-fuzz.lock
endif
SECONDS ?= 60

fuzz: setup
	$(FUZZER)
	$(BIN)/python -m tests.hostile.fuzz.run --seconds $(SECONDS) $(if $(TARGET),--target $(TARGET))

golden: setup
	$(BIN)/python tests/golden/regenerate.py

lock:
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-emit-package pyaudio requirements.in -o requirements.lock
	uv pip compile --universal --generate-hashes --python-version 3.11 requirements-fuzz.in -o requirements-fuzz.lock
	uv pip compile --universal --generate-hashes --python-version 3.11 requirements-tools.in -o requirements-tools.lock
	uv pip compile --universal --generate-hashes --python-version 3.11 benchmarks/requirements-torch.in -o benchmarks/requirements-torch.lock

$(TOOLS_STAMP):
	@test -n "$(PYTHON)" || { echo "make: Python 3.11, 3.12 or 3.13 is needed and none is on the PATH" >&2; exit 1; }
ifeq ($(UV),uv)
	@uv venv --quiet --clear --python "$(PYTHON)" $(TOOLS)
	VIRTUAL_ENV=$(TOOLS) uv pip sync --quiet --require-hashes requirements-tools.lock
else
	@"$(PYTHON)" -m venv --clear $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --require-hashes --no-deps -r requirements-tools.lock
endif
	@touch $@

sbom: $(TOOLS_STAMP)
	$(TOOLS)/bin/cyclonedx-py requirements requirements.lock --output-reproducible --of JSON -o sbom.json
	@echo "sbom.json: $$(grep -c '"purl"' sbom.json) packages; requirements.lock pins $$(grep -c '^[A-Za-z0-9].*==' requirements.lock)"

audit: $(TOOLS_STAMP)
	$(TOOLS)/bin/python tests/audit.py $(TOOLS)/bin/pip-audit $(wildcard requirements*.lock)
