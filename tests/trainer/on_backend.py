"""Checks that need a process of their own, because it can hold one backend only: run there, told and compared here."""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def failures_of(checks: Iterable[Callable[[], None]]) -> dict[str, str]:
    """{name of a check: "" or the traceback of what failed}."""
    failures = {}
    for check in checks:
        try:
            check()
            failures[check.__name__] = ""
        except Exception:  # noqa: BLE001  the test that asked for it shows what happened
            failures[check.__name__] = traceback.format_exc()
    return failures


def run_file(file: str, *words: Any, optimised: bool = False) -> str:
    """What a file of this folder prints, run with words in a process of its own."""
    # Compiling takes most of the time on JAX, and what is computed is mostly tiny.
    shortened = {} if optimised else {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **shortened}
    command = [sys.executable, str(ROOT / "tests/trainer" / file), *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def failures_printed(printed: str) -> dict[str, str]:
    """What `failures_of` found in the other process, whose last line says it."""
    return dict(json.loads(printed.splitlines()[-1]))


def check_same_step(one: Mapping[str, Any], other: Mapping[str, Any], step: int) -> None:
    """Loss (1e-5) and gradients (1e-4 of each variable's, or 1e-7 of the whole's norm) of a step are equal."""
    assert other[f"loss {step}"] == pytest.approx(one[f"loss {step}"], rel=1e-5)
    names = sorted(name for name in one if name.startswith(f"gradient {step} "))
    whole = np.sqrt(sum(np.sum(np.square(one[name], dtype=np.float64)) for name in names))
    for name in names:
        norm = np.linalg.norm(one[name].astype(np.float64))
        assert np.linalg.norm(one[name] - other[name]) <= 1e-4 * max(norm, 1e-3 * whole), name
