"""The GPUs of this machine as its driver shows them, and what is refused on them; no backend is asked."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from schemas.errors import MachineError

_SECONDS = 3.0
_QUERY = "--query-gpu=name,memory.total,compute_cap"
_BFLOAT16 = 8.0
"""Compute capability from which a GPU multiplies bfloat16 by itself: Ampere."""


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: as the driver says it.
        memory: likewise, with its unit.
        capability: compute capability, such as 9.0; None where an old driver does not tell.
    """

    name: str
    memory: str
    capability: float | None


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
    return [Gpu(row[0], row[1], _number(row[2])) for row in rows if len(row) == 3]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def check_used(found: list[Gpu], backend: str, kind: str, allow_cpu: bool) -> str:
    """A sentence to be said, "" for none, about a GPU that lies idle.

    Args:
        found: the GPUs there are.
        backend: that trains.
        kind: of its devices: "cpu", "gpu" or "tpu".
        allow_cpu: whether it was asked for.

    Raises:
        MachineError: it was not asked for.
    """
    if not found or kind != "cpu":
        return ""
    names = ", ".join(sorted({gpu.name for gpu in found}))
    what = f"there are {len(found)} GPUs ({names}), but {backend} sees only the CPU"
    if allow_cpu:
        return f"{what}; training there, as --allow-cpu says"
    package = "jax[cuda12]" if backend == "jax" else "tensorflow[and-cuda]"
    raise MachineError(f"{what}. Install {package}, or train on the CPU with --allow-cpu.")


def check_precision(precision: str, found: list[Gpu], kind: str) -> None:
    """Raises MachineError for a precision that the GPUs lack."""
    lacking = [gpu for gpu in found if gpu.capability is not None and gpu.capability < _BFLOAT16]
    if precision == "mixed_bfloat16" and kind == "gpu" and lacking:
        raise MachineError(
            f"--precision {precision}: {lacking[0].name} has compute capability {lacking[0].capability:g}, and "
            f"bfloat16 needs {_BFLOAT16:g}. Type --precision float32."
        )
