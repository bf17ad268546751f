"""The families that predict the next token, on both backends: each runs all checks in one process, one test a check."""

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("model_checks.py")


def load_checks():
    spec = importlib.util.spec_from_file_location("model_checks", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def failures_on(backend):
    # Compiling takes most of the time on JAX, and what is computed is tiny.
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, str(FILE), backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
@pytest.mark.parametrize("check", [check.__name__ for check in load_checks().CHECKS])
def test_it_holds_on(backend, check):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    assert failures_on(backend)[check] == ""
