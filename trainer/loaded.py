"""A run as it lies on disk, taken up again: its settings, its network, the weights of one of its checkpoints.

It may come from a stranger: settings are read as plain values of known names and types, and nothing in the folder can
choose code to be run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.documents import read_json
from schemas.errors import InputError, UsageError
from schemas.feature import Feature, RecordError, features_from_json
from schemas.manifest import Manifest
from schemas.representations import from_settings
from trainer.arrays import shapes_of
from trainer.backends import current, set_backend
from trainer.checkpoint import Checkpoints
from trainer.config import Run, run_from_json
from trainer.saved import Saved

CONFIG = "config.json"


@dataclass(frozen=True)
class Loaded:
    """A trained run, ready to score and sample.

    Attributes:
        folder: of the run.
        run: its settings; `run.task` is the family.
        model: built, with the weights of the checkpoint.
        representation: of the data it was trained on.
        features: of that data as the model is shown it; with `--redraw-crop` windows of that length.
        data: path of the dataset as it was given to `train`, made absolute.
        saved: step, position, score of the checkpoint.
    """

    folder: str
    run: Run
    model: Any
    representation: Any
    features: Mapping[str, Feature]
    data: str
    saved: Saved

    @property
    def task(self) -> Any:
        """The family with its settings."""
        return self.run.task


_KINDS = {"name": str, "family": str, "model": dict, "train": dict, "data": dict}
_DATA_KINDS = {"path": str, "fingerprint": str, "representation": str, "settings": dict, "features": dict}


def read_config(folder: str) -> dict[str, Any]:
    """config.json of a run.

    Raises:
        UsageError: the folder is no run.
        InputError: the file cannot be read, or what it holds is not of the right kind.
    """
    path = os.path.join(folder, CONFIG)
    if not os.path.exists(path):
        raise UsageError(f"{folder}: not a run ({CONFIG} is missing). `stretto train … --output {folder}` makes one.")
    config = read_json(path, limit_bytes=4 << 20, depth=16, unique_keys=True)
    if not isinstance(config, dict):
        raise InputError(f"{path}: holds a {type(config).__name__}, no settings")
    if missing := _KINDS.keys() - config.keys():
        # A dataset has a file of this name too.
        raise UsageError(f"{folder}: not a run ({CONFIG} says no {', '.join(sorted(missing))}). Give a run's folder.")
    _check_kinds(path, "", config, _KINDS)
    _check_kinds(path, "data.", config["data"], _DATA_KINDS)
    return config


def _check_kinds(path: str, prefix: str, values: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    for key, kind in kinds.items():
        if not isinstance(values.get(key), kind):
            raise InputError(f"{path}: {prefix}{key} is {str(values.get(key))[:60]!r}; expected a {kind.__name__}")


def load_run(folder: str, checkpoint: str = "best") -> Loaded:
    """A run with the weights of its "best", "last" or numbered checkpoint. Call it before anything imports Keras.

    Raises:
        UsageError: the folder is no run, or has no such checkpoint.
        InputError: the checkpoint is damaged.
    """
    config = read_config(folder)
    run, representation, features = understood(config, os.path.join(folder, CONFIG))
    checkpoints = Checkpoints(folder)
    step = checkpoints.choose(checkpoint)
    set_backend(run.settings.backend)
    model = build_model(run, features)
    saved = restore_weights(model, checkpoints, step, checkpoint)
    return Loaded(folder, run, model, representation, features, config["data"]["path"], saved)


def understood(config: Mapping[str, Any], where: str) -> tuple[Run, Any, dict[str, Feature]]:
    """Run, representation and features that a stored configuration names. Raises InputError with the file's name."""
    data = config["data"]
    try:
        run = run_from_json(config)
        representation = from_settings(data["representation"], data["settings"])
        features = features_from_json(data["features"])
    except (UsageError, RecordError) as error:
        raise InputError(f"{where}: {error}") from error
    # What a dataset is asked for before training; whoever wrote this file may not have trained at all.
    for item in run.task.needs(Manifest("", "", data["representation"], data["settings"], features, ())):
        raise InputError(f"{where}: {item.what}: {run.family} needs {item.needed}, data says {item.found}")
    return run, representation, features


def build_model(run: Run, features: Mapping[str, Feature]) -> Any:
    """The run's network in its precision, weights not yet set."""
    import keras

    keras.config.set_dtype_policy(run.settings.precision)
    model = run.task.build(features)
    model.remat = run.settings.remat
    return model


def restore_weights(model: Any, checkpoints: Checkpoints, step: int, which: str) -> Saved:
    """Gives a built model the weights of a checkpoint of a model built alike, that was chosen by `which`.

    Where a running training has removed it meanwhile, which is because it has saved another, chooses again.
    Raises as `Checkpoints.choose` and `Checkpoints.restore` do.
    """
    while True:
        try:
            saved = checkpoints.state(step)
            found = checkpoints.restore(step, weights=shapes_of(model.variables))
        except InputError:
            if step in checkpoints.steps() or which not in ("best", "last"):
                raise
            step = checkpoints.choose(which)
            continue
        current().restore(model.variables, found["weights"])
        return saved
