"""What TensorBoard shows: scalars, pictures and sound of music, settings. tensorboardX makes the messages.

They are written here, in order and at once: tensorboardX would hand them to a thread of its own, which dies in silence
when the disk is full, and then the training waits for it for ever.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from media.render import render, write_wav
from media.roll import Image, png_bytes, roll
from media.storage import cannot_write, write_atomic
from schemas.errors import StrettoError
from schemas.feature import Record
from schemas.music import Piece
from schemas.record import frame

RATE = 22_050
"""Samples a second of audio clips: half of a CD's, because they are for a quick look."""

SECONDS = 30.0
"""Longest clip."""


class Summaries:
    """The event files of a run; use it in a `with` statement.

    Args:
        folder: of the run.
        step: the step it begins at; TensorBoard hides what earlier processes wrote from there on.

    Raises:
        MachineError: an event file cannot be written; from every method.
    """

    def __init__(self, folder: str, step: int) -> None:
        board = os.path.join(folder, "tensorboard")
        # Two writers of one second would share a file's name, and the later one overwrite the earlier.
        suffix = f".{os.getpid()}.{step}"
        # A step that was restored has been logged; the first new point belongs to the next one.
        purge = step + 1 if step else None
        self._train = EventFile(os.path.join(board, "train"), suffix, purge)
        self._eval = EventFile(os.path.join(board, "eval"), suffix, purge)

    def __enter__(self) -> Summaries:
        return self

    def __exit__(self, *exception: object) -> None:
        self._train.close()
        self._eval.close()

    def scalars(self, step: int, values: Mapping[str, float], on: str = "train") -> None:
        """Points of curves; `on` is "train" or "eval", so that both lie in one picture."""
        from tensorboardX.summary import scalar

        writer = self._train if on == "train" else self._eval
        writer.write(step, *(scalar(name, value) for name, value in values.items()))

    def configuration(self, config: Mapping[str, Any], plan: str) -> None:
        """The settings as text, and `plan`: what is trained on what, in a sentence or two."""
        from tensorboardX.summary import text

        shown = json.dumps(config, indent=1, ensure_ascii=False)
        indented = "\n".join(f"    {line}" for line in shown.splitlines())
        self._train.write(0, text("configuration", indented), text("run", plan))

    def hparams(self, config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """The settings as a row of the table of runs, with what came out."""
        from tensorboardX.summary import hparams, scalar

        flat = {f"{group}.{key}": value for group in ("model", "train") for key, value in config[group].items()}
        plain = {
            key: value if isinstance(value, (bool, int, float, str)) else str(value) for key, value in flat.items()
        }
        row = EventFile(os.path.join(self._train.folder, "hparams"), f".{os.getpid()}")
        row.write(0, *hparams(plain, dict(metrics)), *(scalar(name, value) for name, value in metrics.items()))
        row.close()

    def pieces(self, step: int, name: str, pieces: Sequence[Piece], folder: str = "") -> list[str]:
        """Piano roll and sound of each piece, kept in a folder too: `step-2000-0.png`, `step-2000-0.wav`.

        Returns a sentence for each that could not be heard. Raises MachineError where a file cannot be written.
        """
        failed = []
        for number, piece in enumerate(pieces):
            picture, sound = roll(piece), np.zeros(0, np.float32)
            try:
                sound = np.asarray(render(piece, RATE, seconds_limit=SECONDS)).mean(axis=1)
            except StrettoError as error:
                failed.append(f"{name} {number} is not heard: {error}")
            self._train.write(step, *_shown(f"{name}/{number}", picture, sound))
            if folder:
                _keep(os.path.join(folder, f"step-{step}-{number}"), picture, sound)
        return failed


def _keep(stem: str, picture: Image, sound: Any) -> None:
    write_atomic(f"{stem}.png", png_bytes(picture))
    if len(sound):
        write_wav(f"{stem}.wav", sound, RATE)


def _shown(tag: str, picture: Image, sound: Any) -> list[Any]:
    from tensorboardX.summary import audio, image

    # Names of their own: TensorBoard's data server gives a tag to one plugin, and the sound would not be found.
    found = [image(f"{tag}/roll", picture, dataformats="HWC")]
    return [*found, audio(f"{tag}/sound", sound, RATE)] if len(sound) else found


class EventFile:
    """One file of events in a folder, each written through to the system before the call returns.

    Args:
        folder: made where it is missing.
        suffix: of the file's name.
        purge: TensorBoard hides points of this step and later ones in files that were begun before.

    Raises:
        MachineError: the file cannot be written; from `write` too.
    """

    def __init__(self, folder: str, suffix: str, purge: int | None = None) -> None:
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self.folder, self._event = folder, Event
        self.path = os.path.join(folder, f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}{suffix}")
        try:
            os.makedirs(folder, exist_ok=True)
            # Without a buffer: what could not be written must not be tried again when the file is closed.
            self._file = open(self.path, "wb", buffering=0)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        begun = [Event(file_version="brain.Event:2")]
        if purge is not None:
            begun.append(Event(step=purge, file_version="brain.Event:2"))
            begun.append(Event(step=purge, session_log=SessionLog(status=SessionLog.START)))
        self._append(begun)

    def write(self, step: int, *summaries: Any) -> None:
        """Adds what is to be shown at a step."""
        self._append([self._event(step=step, summary=summary) for summary in summaries])

    def close(self) -> None:
        """Closes the file; all is written by then."""
        self._file.close()

    def _append(self, events: Iterable[Any]) -> None:
        for event in events:
            event.wall_time = time.time()
        data = memoryview(b"".join(frame(event.SerializeToString()) for event in events))
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise cannot_write(self.path, error) from error


def decoded(representation: Any, records: Iterable[Record]) -> list[Piece]:
    """Each record as the music that a model sees in it."""
    return [representation.decode([record]) for record in records]
