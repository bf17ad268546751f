"""The GPUs of this machine as its driver shows them, and what is refused on them; no backend is asked."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from schemas.errors import MachineError

_SECONDS = 3.0
_QUERY = "--query-gpu=name,memory.total"
_BFLOAT16 = 8.0
"""Compute capability from which a GPU multiplies bfloat16 by itself: Ampere."""


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: as the driver says it.
        memory: likewise, with its unit.
    """

    name: str
    memory: str


def gpus() -> list[Gpu]:
    """The GPUs that nvidia-smi shows, none where there is no driver.

    Raises:
        MachineError: it is there, and does not answer.
    """
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        command = ["nvidia-smi", _QUERY, "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise MachineError(f"nvidia-smi did not answer in {_SECONDS:g} s: look at the driver, nvidia-smi") from error
    except OSError as error:
        raise MachineError(f"nvidia-smi cannot be run: {error.strerror}") from error
    if done.returncode:
        return []
    rows = (line.split(", ") for line in done.stdout.strip().splitlines())
    return [Gpu(*row) for row in rows if len(row) == 2]


def check_used(found: list[Gpu], backend: str, allow_cpu: bool) -> str:
    """A sentence to be said, "" for none, about GPUs that lie idle because a backend sees only the CPU.

    Raises:
        MachineError: it was not asked for.
    """
    if not found:
        return ""
    names = ", ".join(sorted({gpu.name for gpu in found}))
    what = f"there are {len(found)} GPUs ({names}), but {backend} sees only the CPU"
    if allow_cpu:
        return f"{what}; training there, as --allow-cpu says"
    package = "jax[cuda12]" if backend == "jax" else "tensorflow[and-cuda]"
    raise MachineError(f"{what}. Install {package}, or train on the CPU with --allow-cpu.")


def check_precision(precision: str, capability: float | None) -> None:
    """Raises MachineError for a precision that a GPU of this compute capability lacks; None is no such GPU."""
    if precision == "mixed_bfloat16" and capability is not None and capability < _BFLOAT16:
        raise MachineError(
            f"--precision {precision}: this GPU has compute capability {capability:g}, and bfloat16 needs "
            f"{_BFLOAT16:g}. Type --precision float32."
        )
