"""Arrays on disk: written and read by Orbax, looked at before, and its errors told in a sentence."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from schemas.errors import InputError, MachineError

_OS_ERROR = re.compile(r"os_error_code='([0-9]+)'")
_SECONDS_FOR_THREADS = 10


def write_arrays(folder: str, parts: Mapping[str, Sequence[Any]]) -> None:
    """Writes lists of arrays into a folder that is not there yet, each part into a folder of its own.

    Raises:
        OSError, ValueError, RuntimeError: as Orbax does; `disk_reason` tells those of the machine. Nothing is being
            written any more by then.
    """
    import orbax.checkpoint as ocp

    _hush_orbax()
    before = set(threading.enumerate())
    args = {name: ocp.args.StandardSave(list(arrays)) for name, arrays in parts.items()}
    try:
        with _checkpointer() as checkpointer:
            checkpointer.save(folder, args=ocp.args.Composite(**args))
    except BaseException:
        for thread in set(threading.enumerate()) - before:
            thread.join(_SECONDS_FOR_THREADS)
        raise


def shapes_of(variables: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """An array of the shape and type of each variable, without memory of its own: what `read_arrays` is to read."""
    return [np.broadcast_to(np.zeros((), str(item.dtype)), tuple(item.shape)) for item in variables]


def read_arrays(folder: str, abstract: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """The parts of a folder as lists of NumPy arrays, of the shapes and types of their abstract trees.

    Raises:
        InputError: a part holds other arrays, or cannot be read.
    """
    import orbax.checkpoint as ocp

    trees = {name: list(tree) for name, tree in abstract.items() if tree}
    try:
        for name, tree in trees.items():
            _check_arrays(name, tree, os.path.join(folder, name))
        args = {name: ocp.args.StandardRestore(tree) for name, tree in trees.items()}
        with _checkpointer() as checkpointer:
            found = checkpointer.restore(folder, args=ocp.args.Composite(**args))
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        # Where checksums are right, it was written like this: by another version, or by a stranger.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{folder}: its arrays cannot be read: {lines[-1][:300]}") from error
    return {name: list(found[name]) if name in trees else [] for name in abstract}


def _checkpointer() -> Any:
    """Orbax for this process alone: it would else wait for all processes of a run, and only one of them saves."""
    import orbax.checkpoint as ocp

    number = ocp.multihost.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=number, active_processes={number}, barrier_sync_key_prefix=f"process_{number}"
    )
    handler = ocp.CompositeCheckpointHandler(composite_options=ocp.CompositeOptions(multiprocessing_options=alone))
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def disk_reason(error: Exception) -> str:
    """What the disk said, also where only Orbax's text tells it; "" where the error is not the machine's."""
    if isinstance(error, MachineError) and isinstance(error.__cause__, OSError):
        error = error.__cause__
    if isinstance(error, OSError):
        return error.strerror or str(error)
    found = _OS_ERROR.search(str(error))
    return os.strerror(int(found[1])) if found else ""


def _check_arrays(part: str, wanted: Sequence[Any], folder: str) -> None:
    """Raises InputError unless the arrays on disk are those wanted: Orbax would cast, cut or fill up in silence."""
    import orbax.checkpoint as ocp

    there = ocp.StandardCheckpointHandler().metadata(Path(folder)).tree
    if not isinstance(there, (list, tuple)) or len(there) != len(wanted):
        count = len(there) if isinstance(there, (list, tuple)) else "no list of"
        raise InputError(f"{part}: {count} arrays there, {len(wanted)} in this network")
    for number, (found, want) in enumerate(zip(there, wanted, strict=True)):
        have, need = (tuple(found.shape), np.dtype(found.dtype)), (tuple(want.shape), np.dtype(want.dtype))
        if have != need:
            raise InputError(f"{part}: array {number} is {have[1]}{have[0]} there, {need[1]}{need[0]} in this network")
        chunk = found.storage.chunk_shape if found.storage else None
        if chunk and any(piece > max(1, whole) for piece, whole in zip(chunk, want.shape, strict=True)):
            raise InputError(f"{part}: array {number} is stored in pieces of {chunk}, larger than itself")


@cache
def _hush_orbax() -> None:
    """Keeps from the terminal what Orbax's threads print of an error that it also raises: a traceback from each."""
    logging.getLogger("absl").addFilter(lambda record: "_SignalingThread" not in str(record.msg))
    logging.getLogger("asyncio").addFilter(lambda record: "never retrieved" not in str(record.msg))
    shown = sys.unraisablehook

    def show(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            shown(unraisable)

    sys.unraisablehook = show
