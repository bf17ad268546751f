"""One training run, built and compiled once for a process, so that many attacks can be made on it at little cost."""

import contextlib
import dataclasses
import io
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from schemas.manifest import read_manifest  # noqa: E402
from schemas.representations import from_settings  # noqa: E402
from trainer.backends import current, set_backend  # noqa: E402
from trainer.config import Run, TrainSettings  # noqa: E402
from trainer.data import Reader  # noqa: E402
from trainer.models.music_transformer import MusicTransformer  # noqa: E402
from trainer.train import configuration  # noqa: E402

TASK = MusicTransformer(layers=1, hidden=16, attention=16, feed_forward=16, heads=2, max_distance=16, dropout=0.1)


class Never:
    """Nobody asks the process to stop."""

    requested = by_hand = False


def make(backend, data, validation=False, **settings):
    """A course on a dataset; each training chooses its folder. Scoring is off: it would be compiled for each."""
    set_backend(backend)
    current().prepare(False)
    from trainer.backends.update import Update
    from trainer.course import Course
    from trainer.loaded import build_model

    chosen = TrainSettings(
        **{"backend": backend, "batch": 4, "warmup": 2, "evaluate_examples": 4, "optimiser": "adamw", **settings}
    )
    run, manifest = Run("attacked", "music-transformer", TASK, chosen), read_manifest(data)
    update = Update(build_model(run, manifest.features), TASK.objectives(), chosen)
    representation = from_settings(manifest.representation, manifest.settings)
    readers = Reader(data, manifest, "train"), Reader(data, manifest, "validation") if validation else None
    config = configuration(run, manifest, data)
    return Course(run, config, {}, "", manifest, representation, *readers, update)


def changed(course, **settings):
    """The same course with other settings, of those that do not change what is compiled."""
    run = dataclasses.replace(course.run, settings=dataclasses.replace(course.run.settings, **settings))
    return dataclasses.replace(course, run=run)


def train(course, folder, stop=Never):
    """Begins or goes on with a training in a folder. Returns the error that ended it, or None, and what it said."""
    from schemas.errors import StrettoError
    from trainer.loop import loop

    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            loop(dataclasses.replace(course, folder=str(folder)), stop)
        except StrettoError as error:
            return error, said.getvalue()
    return None, said.getvalue()


def state(course):
    """Everything that training moves, as bytes."""
    return [np.asarray(item.value).tobytes() for item in course.update.variables]


def saved(course, folder, step):
    """The same of a checkpoint."""
    from trainer.arrays import shapes_of
    from trainer.checkpoint import Checkpoints
    from trainer.course import parts

    weights, optimiser = parts(course.update)
    found = Checkpoints(str(folder)).restore(step, weights=shapes_of(weights), optimiser=shapes_of(optimiser))
    return [np.asarray(item).tobytes() for item in (*found["weights"], *found["optimiser"])]
