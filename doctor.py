"""Is this machine able? Read from package metadata and the system; only the trials of `--deep` import much."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path

from schemas.errors import MachineError, MissingExtra
from schemas.settings import setting
from trainer.accelerators import answer, gpus, start, tpu_sign

MODULES = {
    "apache_beam": ("pipelines", "apache-beam"),
    "note_seq": ("pipelines", "note-seq"),
    "music21": ("music21", "music21"),
    "soundfile": ("audio", "soundfile"),
    "soxr": ("audio", "soxr"),
    "pretty_midi": ("audio", "pretty_midi"),
    "fluidsynth": ("audio", "pyfluidsynth"),
    "keras": ("trainer", "keras"),
    "jax": ("trainer", "jax"),
    "orbax": ("trainer", "orbax-checkpoint"),
    "safetensors": ("trainer", "safetensors"),
    "tensorboard": ("trainer", "tensorboard"),
    "tensorboardX": ("trainer", "tensorboardX"),
    "PIL": ("trainer", "pillow"),
    "mir_eval": ("trainer", "mir_eval"),
    "tensorflow": ("tensorflow-cpu", "tensorflow"),
    "google.cloud.storage": ("gcp", "google-cloud-storage"),
    "tfrecord": ("torch", "tfrecord"),
    "torch": ("torch", "torch"),
}
"""Module that may be missing -> (extra that brings it, package)."""

NEEDED = ("pipelines", "trainer")
"""Extras without which some command cannot work at all; a missing one is a fault, any other a remark."""

OWN_NAMES = ("schemas", "media", "beam_pipelines", "trainer", "stretto", "commands", "command_line", "doctor")
SOUNDFONTS = (
    "/usr/share/sounds/sf2/TimGM6mb.sf2",
    "/usr/share/sounds/sf2/FluidR3_GM.sf2",
    "/usr/share/sounds/sf2/default-GM.sf2",
    "/usr/share/soundfonts/default.sf2",
)
JAX_SECONDS, TRIAL_SECONDS = 4.0, 120.0
JAX_DEVICES = "import jax; print(jax.__version__, *(f'{d.platform} {d.device_kind}' for d in jax.devices()), sep='\\n')"
JAX_BY_HAND = "try it by hand: python -c 'import jax; jax.devices()'"
IN_USE = re.compile("already in use|in use by|resource busy|devices are busy", re.IGNORECASE)
"""What libtpu and CUDA say while another process, a training, has a device that only one may have."""

ENOUGH_DISK_GB, ENOUGH_MEMORY_GB = 5.0, 4.0

TRIALS = {
    "tensorflow": "import tensorflow as tf; x = tf.ones((64, 64)); assert float((x @ x)[0, 0]) == 64.0; "
    "print(tf.__version__, [d.device_type for d in tf.config.list_physical_devices()])",
    "jax": "import jax, jax.numpy as jnp; x = jnp.ones((64, 64)); assert float((x @ x)[0, 0]) == 64.0; "
    "print(jax.__version__, jax.devices())",
}
"""Backend -> a program that multiplies two matrices on its default device."""


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        name: what was looked at.
        status: "ok"; "note" where something is worth knowing; "fault" where a command will not work.
        found: what there is.
        remedy: what to type, where there is something to do.
    """

    name: str
    status: str
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Doctor:
    """The settings of `stretto doctor`."""

    deep: bool = setting(False, help="run one real operation on each installed backend, in a process of its own")
    path: str = setting(".", help="folder whose disk is looked at", metavar="DIR")


def missing_extra(module: str) -> MissingExtra | None:
    """The error for a module that is not installed, or None where it belongs to no extra (the fault is then ours)."""
    for known, (extra, package) in MODULES.items():
        if module == known or module.startswith(f"{known}."):
            return MissingExtra(package, extra)
    return None


def examine(settings: Doctor) -> list[Check]:
    """Everything looked at, in the order to read it."""
    jax = JaxDevices() if installed("jax") else None
    checks = [python(), crc32c(), disk(settings.path), memory(), accelerator(), *extras(), renderer(), *clashes()]
    checks += [jax.check()] if jax else []
    return [*checks, *(trial(backend) for backend in TRIALS if settings.deep and installed(backend))]


def able(checks: list[Check]) -> bool:
    """Whether no check found a fault."""
    return all(check.status != "fault" for check in checks)


def as_text(checks: list[Check]) -> str:
    """One line a check, the remedies below what they mend, and a last line with the verdict."""
    lines = []
    for check in checks:
        lines.append(f"{check.status:<6} {check.name:<22} {check.found}")
        lines += [f"{'':<29} {check.remedy}"] if check.remedy else []
    return "\n".join(
        [*lines, "", "this machine is able" if able(checks) else "this machine is not able: see the lines marked fault"]
    )


def python() -> Check:
    """The interpreter's version."""
    found = f"{sys.version.split()[0]} at {sys.executable}"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Check("Python", "ok", found)
    return Check(
        "Python", "fault", found, "install Python 3.11, 3.12 or 3.13 and make a new virtual environment with it"
    )


def crc32c() -> Check:
    """Whether checksums are computed in C; in Python they are several hundred times slower."""
    spec = importlib.util.find_spec("google_crc32c")
    if spec is None:
        return Check("google-crc32c", "fault", "not installed", "pip install google-crc32c")
    folder = Path(next(iter(spec.submodule_search_locations or ["."])))
    if any(folder.glob("_crc32c*.so")) or any(folder.glob("_crc32c*.pyd")):
        return Check("google-crc32c", "ok", f"{version('google-crc32c')}, implementation in C")
    return Check("google-crc32c", "note", "pure Python, very slow", "pip install --force-reinstall google-crc32c")


def disk(path: str) -> Check:
    """Free space where output would go."""
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    if free >= ENOUGH_DISK_GB:
        return Check("disk", "ok", f"{free:.0f} GB free at {folder}")
    return Check("disk", "note", f"{free:.1f} GB free at {folder}", "large corpora and checkpoints need more")


def memory() -> Check:
    """Memory and processors; a control group's limit counts where it is lower."""
    if not hasattr(os, "sysconf"):
        return Check("memory", "note", "not known on this system")
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    gigabytes = min(size, int(text) if text.isdigit() else size) / 1e9
    found = f"{gigabytes:.1f} GB, {os.cpu_count()} processors"
    if gigabytes >= ENOUGH_MEMORY_GB:
        return Check("memory", "ok", found)
    return Check("memory", "note", found, "a driver takes up to 0.7 GB, a worker 0.5 GB, training 2 GB and more")


def accelerator() -> Check:
    """What drivers and buses show; whether a backend reaches it is what --deep tries."""
    seen = gpus()
    if seen.trouble:
        return Check("accelerator", "note", seen.trouble, "look at the driver: nvidia-smi")
    if seen.found:
        return Check("accelerator", "ok", "; ".join(f"{gpu.name}, {gpu.memory}" for gpu in seen.found))
    if sign := tpu_sign():
        return Check("accelerator", "ok", sign)
    if shutil.which("nvidia-smi"):
        return Check("accelerator", "note", "nvidia-smi shows no GPU", "look at the driver: nvidia-smi")
    return Check("accelerator", "note", "no nvidia-smi: training runs on the CPU")


class JaxDevices:
    """What JAX sees, asked in a process of its own while the rest is looked at: only it knows whether TPUs answer."""

    def __init__(self) -> None:
        # A GPU's memory may be in use by a training: ask for none of it.
        environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "2"}
        self._until = time.monotonic() + JAX_SECONDS
        self._process = start([sys.executable, "-c", JAX_DEVICES], environment)

    def check(self) -> Check:
        """What it answered within a few seconds."""
        name = "JAX's devices"
        try:
            code, out, err = answer(self._process, max(0.1, self._until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return Check(name, "note", f"no answer in {JAX_SECONDS:g} s", "wait for it: stretto doctor --deep")
        if code:
            return failed(name, code, err, JAX_BY_HAND)
        _, *found = out.split("\n")
        kinds = Counter(filter(None, found))
        return Check(name, "ok", ", ".join(f"{count} x {kind}" for kind, count in kinds.items()))


def failed(name: str, code: int, err: str, by_hand: str) -> Check:
    """A fault with the last words of a program, but a note where another one has the device."""
    last = (err.strip().splitlines() or [f"ended with {code}"])[-1]
    if IN_USE.search(err):
        return Check(name, "note", f"in use by another process: {last}", "wait until that one has ended")
    return Check(name, "fault", last, by_hand)


def extras() -> Iterator[Check]:
    """For each extra, whether every package it names is installed."""
    for extra in dict.fromkeys(extra for extra, _ in MODULES.values()):
        if extra == "tensorflow-cpu":
            yield tensorflow()
            continue
        names = [package for other, package in MODULES.values() if other == extra]
        missing = [name for name in names if not has_distribution(name)]
        if not missing:
            yield Check(f"extra {extra}", "ok", ", ".join(f"{name} {version(name)}" for name in names))
        else:
            status = "fault" if extra in NEEDED else "note"
            yield Check(f"extra {extra}", status, f"missing: {', '.join(missing)}", f"pip install 'stretto[{extra}]'")


def tensorflow() -> Check:
    """Whether any distribution of TensorFlow is there: the backend that is default on one machine."""
    found = [name for name in ("tensorflow", "tensorflow-cpu") if has_distribution(name)]
    if found:
        return Check("extra tensorflow", "ok", ", ".join(f"{name} {version(name)}" for name in found))
    remedy = "pip install 'stretto[tensorflow-cpu]' (or 'stretto[tensorflow]' for a GPU)"
    return Check("extra tensorflow", "note", "missing: --backend auto will take JAX", remedy)


def renderer() -> Check:
    """A SoundFont and something that plays it: without them `sample` writes no WAV."""
    fonts = [path for path in (*packed_soundfonts(), *SOUNDFONTS) if os.path.isfile(path)]
    players = [name for name in ("tinysoundfont", "fluidsynth") if installed(name)]
    if fonts and players:
        return Check("sound", "ok", f"{', '.join(players)} with {fonts[0]}")
    if not fonts:
        return Check("sound", "fault", "no SoundFont", "pip install 'stretto[audio]' (pretty_midi brings one)")
    return Check("sound", "fault", "nothing plays SoundFonts", "pip install --no-deps tinysoundfont")


def packed_soundfonts() -> list[str]:
    """SoundFonts inside installed packages."""
    spec = importlib.util.find_spec("pretty_midi")
    folders = (spec.submodule_search_locations or []) if spec else []
    return [os.path.join(folder, "TimGM6mb.sf2") for folder in folders]


def clashes() -> Iterator[Check]:
    """Other distributions that own a top-level module of ours: the one found first on the path wins, silently."""
    owners = packages_distributions()
    for name in OWN_NAMES:
        others = sorted({owner for owner in owners.get(name, []) if owner.lower() != "stretto"})
        if others:
            remedy = f"pip uninstall {' '.join(others)}, or give Stretto a virtual environment of its own"
            yield Check(f"name {name}", "fault", f"also belongs to {', '.join(others)}", remedy)


def trial(backend: str) -> Check:
    """One matrix product on a backend's default device, in a process of its own because a broken driver may kill it."""
    name, by_hand = f"trial {backend}", f"try it by hand: python -c 'import {backend}'"
    try:
        code, out, err = answer(start([sys.executable, "-P", "-c", TRIALS[backend]]), TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        return Check(name, "fault", f"no answer in {TRIAL_SECONDS:g} s", by_hand)
    return failed(name, code, err, by_hand) if code else Check(name, "ok", out.strip())


def installed(module: str) -> bool:
    """Whether a top-level module can be found; it is not imported."""
    return importlib.util.find_spec(module) is not None


def has_distribution(name: str) -> bool:
    """Whether a package is installed, from its metadata."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def code_of(checks: list[Check]) -> int:
    """0 where the machine is able, else the exit code of an environment that is not."""
    return 0 if able(checks) else MachineError.exit_code
