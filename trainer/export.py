"""A run's weights as one safetensors file, for others: names are variable paths, nothing in it can execute."""

from __future__ import annotations

import os
from dataclasses import dataclass
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
    try:
        from safetensors.numpy import save
    except ModuleNotFoundError:
        raise MissingExtra("safetensors", "trainer") from None
    from trainer.loaded import load_run

    loaded = load_run(run, settings.checkpoint)
    metadata = metadata_of(loaded)
    arrays = {weight.path: np.ascontiguousarray(weight.value) for weight in loaded.model.weights}
    write_atomic(path, save(arrays, metadata))
    return {
        "file": path,
        "weights": int(sum(array.size for array in arrays.values())),
        "arrays": len(arrays),
        **metadata,
    }


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
