"""Accelerators of this machine as its drivers and buses show them, and what is refused on them; no backend is asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import MachineError

_SECONDS = 3.0
_SECONDS_TO_DIE = 0.3
_QUERY = "--query-gpu=name,memory.total"
_NONE = "No devices were found"
_BFLOAT16 = 8.0
"""Compute capability from which a GPU multiplies bfloat16 by itself: Ampere."""

_ROOT = Path("/")
_GOOGLE = "0x1ae0"
_TPUS = {"0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076"}
"""PCI devices that JAX takes for TPUs; Google's network cards have the same vendor."""
_TPU_HOSTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")
"""What Google Kubernetes Engine sets. Not TPU_SKIP_MDS_QUERY: JAX sets that itself where there is no TPU."""

_MEND = {
    "jax": (
        "Type pip install '.[cuda]'. Where that is installed, JAX_PLATFORMS=cuda python -c 'import jax; jax.devices()' "
        "says why JAX does not see them: often the driver is too old."
    ),
    "tensorflow": (
        "Type pip install 'tensorflow[and-cuda]'. Where that is installed, python -c 'import tensorflow as tf; "
        'tf.config.list_physical_devices("GPU")\' says why TensorFlow does not see them: often the driver is too old.'
    ),
}
_OR_CPU = "Or train on the CPU with --allow-cpu."


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: as the driver says it.
        memory: likewise, with its unit.
    """

    name: str
    memory: str


@dataclass(frozen=True)
class Gpus:
    """What the driver shows.

    Attributes:
        found: its GPUs.
        trouble: why it is not known which there are, "" where it is.
    """

    found: tuple[Gpu, ...] = ()
    trouble: str = ""


def gpus() -> Gpus:
    """The GPUs that nvidia-smi shows, none where there is no nvidia-smi. It raises nothing: not all who ask mind."""
    if shutil.which("nvidia-smi") is None:
        return Gpus()
    try:
        code, out, err = answer(start(["nvidia-smi", _QUERY, "--format=csv,noheader"]), _SECONDS)
    except subprocess.TimeoutExpired:
        return Gpus(trouble=f"nvidia-smi did not answer in {_SECONDS:g} s")
    except OSError as error:
        return Gpus(trouble=f"nvidia-smi cannot be run: {error.strerror}")
    if code and _NONE not in out + err:
        said = " ".join((out + err).split())
        return Gpus(trouble=f"nvidia-smi ended with {code}: {said or 'it said nothing'}")
    rows = (line.split(", ") for line in out.strip().splitlines())
    return Gpus(tuple(Gpu(*row) for row in rows if len(row) == 2))


def start(words: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A program whose output `answer` reads. Raises OSError where it cannot be run."""
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, env=environment)


def answer(process: subprocess.Popen[str], seconds: float) -> tuple[int, str, str]:
    """Exit code and output of a process; one that takes longer is killed, and left alone where even that is in vain.

    Raises:
        subprocess.TimeoutExpired: it took longer.
    """
    try:
        out, err = process.communicate(timeout=seconds)
    except BaseException:
        # A process inside a broken driver does not die, and a child of its own may hold the pipes: no wait for ever.
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_SECONDS_TO_DIE)
        process.poll()
        raise
    return process.returncode, out, err


def tpu_sign() -> str:
    """What says that this machine has TPUs, in words; "" where nothing does.

    Where JAX looks: chips on the PCI bus, and what Kubernetes says of a pod's workers. Chips that the bus hides have a
    device file. /dev/vfio says nothing: machines that lend any card to a guest have it, and the bus shows a TPU there.
    """
    return next(_tpu_signs(), "")


def _tpu_signs() -> Iterator[str]:
    chips = [path for path in _ROOT.glob("sys/bus/pci/devices/*") if _is_tpu(path)]
    if chips:
        yield f"{len(chips)} TPU chips on the PCI bus"
    # Not /dev/accel/accel0: that folder is of other makers' accelerators.
    files = sorted(path for path in _ROOT.glob("dev/accel*") if re.fullmatch(r"accel\d+", path.name))
    if files:
        yield f"a TPU as /dev/{files[0].name}"
    for name in _TPU_HOSTS:
        if os.environ.get(name):
            yield f"a TPU, as {name} says"


def _is_tpu(folder: Path) -> bool:
    try:
        vendor, device = ((folder / name).read_text().strip() for name in ("vendor", "device"))
    except OSError:
        return False
    return vendor == _GOOGLE and device in _TPUS


def check_used(seen: Gpus, backend: str, allow_cpu: bool) -> str:
    """A sentence to be said, "" for none, about accelerators that lie idle because a backend sees only the CPU.

    Raises:
        MachineError: it was not asked for.
    """
    what, mend = _idle(seen, backend)
    if not what:
        return ""
    if allow_cpu:
        return f"{what}; training there, as --allow-cpu says"
    raise MachineError(f"{what}. {mend} {_OR_CPU}")


def _idle(seen: Gpus, backend: str) -> tuple[str, str]:
    """What is there beside the CPU, and how to use it."""
    only = f"{backend} sees only the CPU"
    if seen.trouble:
        return f"{only}, and whether there are GPUs is not known: {seen.trouble.rstrip('.')}", (
            "Look at the driver: nvidia-smi. After an update of it, start the machine anew."
        )
    if seen.found:
        names = ", ".join(sorted({gpu.name for gpu in seen.found}))
        return f"there are {len(seen.found)} GPUs ({names}), but {only}", _MEND[backend]
    if sign := tpu_sign():
        first = "Type" if backend == "jax" else "Type --backend jax, after"
        return f"there is {sign}, but {only}", (
            f"{first} pip install '.[tpu]'. Where that is installed, JAX_PLATFORMS=tpu python -c 'import jax; "
            "jax.devices()' says why JAX does not see it."
        )
    return "", ""


def check_precision(precision: str, capability: float | None) -> None:
    """Raises MachineError for a precision that a GPU of this compute capability lacks; None is no such GPU."""
    if precision == "mixed_bfloat16" and capability is not None and capability < _BFLOAT16:
        raise MachineError(
            f"--precision {precision}: this GPU has compute capability {capability:g}, and bfloat16 needs "
            f"{_BFLOAT16:g}. Type --precision float32."
        )
