"""Refusals of inputs on which their reader failed in a way that nobody foresaw: they cost one input, not the build."""

import os
import traceback

from beam_pipelines.clean import Refusal

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def unexpected(name: str, error: Exception) -> Refusal:
    """The refusal of an input whose reading raised what it should not."""
    return Refusal("quarantined", "unexpected", f"{name}: {type(error).__name__}: {error}, raised by {_place(error)}")


def too_much_memory(name: str, megabytes: int) -> Refusal:
    """The refusal of an input whose reading takes more memory than it may."""
    message = f"{name}: reading it takes more memory than --item-megabytes {megabytes} allows"
    return Refusal("quarantined", "too-much-memory", message)


def _place(error: Exception) -> str:
    """Where an exception was raised, without the folders of this machine, so that equal builds say the same."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    inside = frame.filename.startswith(_ROOT)
    file = os.path.relpath(frame.filename, _ROOT) if inside else os.path.basename(frame.filename)
    return f"{file}, line {frame.lineno}, in {frame.name}"
