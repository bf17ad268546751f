"""What TensorBoard shows: scalars, pictures and sound of music, settings. Written by tensorboardX."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from media.render import render
from media.roll import roll
from schemas.errors import StrettoError
from schemas.feature import Record
from schemas.music import Piece

RATE = 22_050
"""Samples a second of audio clips: half of a CD's, because they are for a quick look."""

SECONDS = 30.0
"""Longest clip."""


class Summaries:
    """The event files of a run; use it in a `with` statement.

    Args:
        folder: of the run.
        step: the step it begins at; TensorBoard hides what earlier processes wrote from there on.
    """

    def __init__(self, folder: str, step: int) -> None:
        from tensorboardX import SummaryWriter

        board = os.path.join(folder, "tensorboard")
        # A step that was restored has been logged; the first new point belongs to the next one.
        purge: dict[str, Any] = {"purge_step": step + 1} if step else {}
        # Two writers of one second would share a file's name, and the later one overwrite the earlier.
        suffix = f".{os.getpid()}.{step}"
        self._train = SummaryWriter(os.path.join(board, "train"), filename_suffix=suffix, **purge)
        self._eval = SummaryWriter(os.path.join(board, "eval"), filename_suffix=suffix, **purge)

    def __enter__(self) -> Summaries:
        return self

    def __exit__(self, *exception: object) -> None:
        self._train.close()
        self._eval.close()

    def scalars(self, step: int, values: Mapping[str, float], on: str = "train") -> None:
        """Points of curves; `on` is "train" or "eval", so that both lie in one picture."""
        writer = self._train if on == "train" else self._eval
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    def configuration(self, config: Mapping[str, Any], plan: str) -> None:
        """The settings as text, and `plan`: what is trained on what, in a sentence or two."""
        text = json.dumps(config, indent=1, ensure_ascii=False)
        self._train.add_text("configuration", "\n".join(f"    {line}" for line in text.splitlines()), 0)
        self._train.add_text("run", plan, 0)

    def hparams(self, config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """The settings as a row of the table of runs, with what came out."""
        flat = {f"{group}.{key}": value for group in ("model", "train") for key, value in config[group].items()}
        plain = {
            key: value if isinstance(value, (bool, int, float, str)) else str(value) for key, value in flat.items()
        }
        self._train.add_hparams(plain, dict(metrics), name="hparams")

    def pieces(self, step: int, name: str, pieces: Sequence[Piece]) -> list[str]:
        """Piano roll and sound of each piece. Returns a sentence for each that could not be shown."""
        failed = []
        for number, piece in enumerate(pieces):
            try:
                self._piece(step, f"{name}/{number}", piece)
            except StrettoError as error:
                failed.append(f"{name} {number} is not shown: {error}")
        self._train.flush()
        return failed

    def _piece(self, step: int, tag: str, piece: Piece) -> None:
        # Names of their own: TensorBoard's data server gives a tag to one plugin, and the sound would not be found.
        self._train.add_image(f"{tag}/roll", roll(piece), step, dataformats="HWC")
        sound = render(piece, RATE, seconds_limit=SECONDS)
        if len(sound):
            self._train.add_audio(f"{tag}/sound", np.asarray(sound).mean(axis=1), step, sample_rate=RATE)


def decoded(representation: Any, records: Iterable[Record]) -> list[Piece]:
    """Each record as the music that a model sees in it."""
    return [representation.decode([record]) for record in records]
