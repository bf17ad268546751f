"""A run's weights as one safetensors file, for others: names are variable paths, nothing in it can execute."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from media.storage import local, write_atomic
from schemas.errors import MissingExtra, UsageError
from schemas.hashing import canonical_json
from schemas.settings import setting, to_json


@dataclass(frozen=True)
class Export:
    """Which weights, and whether a file that is there may go."""

    checkpoint: str = setting("best", help="best, last, or a step", metavar="best|last|N")
    overwrite: bool = setting(False, help="replace the file if it is there")


def export(run: str, path: str, settings: Export) -> dict[str, Any]:
    """Writes the weights of a run; returns path, step, number of weights and what stands in the file's metadata.

    The metadata (all texts; settings as JSON) say how to build the network again: family, settings, representation
    and its settings, step, precision. Random seeds and the optimiser stay behind.

    Raises:
        UsageError: the file is there, is not named `.safetensors`, or the run has no such checkpoint.
        InputError: the checkpoint is damaged.
    """
    if not path.endswith(".safetensors"):
        raise UsageError(f"{path}: name the file with .safetensors at its end, so that others know what it is")
    if os.path.exists(local(path)) and not settings.overwrite:
        raise UsageError(f"{path}: already there. Choose another name, or replace it with --overwrite.")
    _check_installed()
    from trainer.loaded import load_run

    loaded = load_run(run, settings.checkpoint)
    metadata = metadata_of(loaded)
    arrays = {weight.path: np.ascontiguousarray(weight.value) for weight in loaded.model.weights}
    write_atomic(path, as_safetensors(arrays, metadata))
    return {
        "file": path,
        "weights": int(sum(array.size for array in arrays.values())),
        "arrays": len(arrays),
        **metadata,
    }


def _check_installed() -> None:
    if find_spec("safetensors") is None:
        raise MissingExtra("safetensors", "trainer")


def as_safetensors(arrays: Mapping[str, np.ndarray[Any, Any]], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file of contiguous arrays of any shape and dtype: the same bytes whenever it is made.

    The package writes the metadata in an order that is drawn in each process, so the header, a JSON object behind its
    length in 8 bytes, gets them here (https://github.com/huggingface/safetensors, "Format").
    """
    from safetensors.numpy import save

    plain = save(dict(arrays))
    end = 8 + int.from_bytes(plain[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(plain[8:end])}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # arrays begin at a multiple of 8
    return b"".join((len(text).to_bytes(8, "little"), text, memoryview(plain)[end:]))


def metadata_of(loaded: Any) -> dict[str, str]:
    """What a reader needs to build the network again; safetensors allows texts only."""
    return {
        "format": "stretto",
        "run": loaded.run.name,
        "family": loaded.run.family,
        "settings": canonical_json(to_json(loaded.task)),
        "representation": type(loaded.representation).__name__.lower(),
        "representation_settings": canonical_json(to_json(loaded.representation)),
        "step": str(loaded.saved.step),
        "precision": loaded.run.settings.precision,
        "data_fingerprint": loaded.saved.data,
    }
