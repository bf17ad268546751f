"""The families that predict the next token, on both backends: each runs all checks in one process, one test a check."""

import importlib.util
from functools import cache

import pytest

from tests.trainer.model_checks import CHECKS
from tests.trainer.on_backend import failures_printed, run_file


@cache
def failures_on(backend):
    return failures_printed(run_file("model_checks.py", backend))


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
@pytest.mark.parametrize("check", [check.__name__ for check in CHECKS])
def test_it_holds_on(backend, check):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    assert failures_on(backend)[check] == ""
