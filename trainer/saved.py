"""What stands in a checkpoint beside its arrays, and whether its folder is whole: read without trusting a byte of it.

A whole checkpoint is a folder of regular files, each of them in `files.json` with its sha256; that file is written
last, and its last line is the sha256 of the others. A folder may come from a stranger, or be what a full disk or a
dying one left: whatever stands there, the answer is a sentence.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

from media.storage import sync_folder, write_atomic
from schemas.documents import LARGEST_JSON, parse_json, read_document, read_json
from schemas.errors import InputError
from schemas.hashing import file_sha256
from schemas.naming import readable

STATE = "state.json"
FILES = "files.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_READ_BY_ORBAX = ("_METADATA", "_CHECKPOINT_METADATA", "_sharding")
"""JSON that is parsed without bounds when arrays are read, so it is read with bounds before."""
_MOST_FILES = 1 << 20
_DEEPEST = 16


@dataclass(frozen=True)
class Saved:
    """What is known of a checkpoint beside its arrays.

    Attributes:
        step: updates made.
        position: training examples consumed.
        data: fingerprint of the dataset.
        configuration: fingerprint of the run's settings.
        score: loss on the validation split, lower is better; None where it was not measured.
        logs: of the last step.
    """

    step: int
    position: int
    data: str
    configuration: str
    score: float | None
    logs: Mapping[str, float]


def seal(folder: str, saved: Saved) -> None:
    """Makes a folder of arrays a whole checkpoint: writes what is known of it, then the list of all files, and syncs.

    Raises:
        MachineError: the disk is full, or may not be written to.
        OSError: the same, where syncing tells it.
    """
    write_atomic(os.path.join(folder, STATE), json.dumps(asdict(saved), indent=1, allow_nan=False).encode())
    write_list(folder)


def write_list(folder: str) -> None:
    """Syncs every file below a folder and writes their list; raises as `seal` does."""
    names = sorted(name for name in _files(folder) if name != FILES)
    for name in names:
        _sync(os.path.join(folder, name))
    for inner in {os.path.dirname(os.path.join(folder, name)) for name in names}:
        sync_folder(inner)
    listed = {name: file_sha256(os.path.join(folder, name)) for name in names}
    write_atomic(os.path.join(folder, FILES), _list_bytes(listed, _digest_of_list(listed)))


def read_saved(folder: str) -> Saved:
    """What is known of a checkpoint. Raises InputError where that cannot be, naming file and key."""
    values = read_json(os.path.join(folder, STATE), limit_bytes=1 << 20, depth=4, unique_keys=True)
    names = {field.name for field in fields(Saved)}
    if not isinstance(values, dict) or values.keys() != names:
        raise InputError(f"{STATE}: must hold {', '.join(sorted(names))}, and nothing else")
    for name, fits in _FITS.items():
        if not fits(values[name]):
            raise InputError(f"{STATE}: {name} is {str(values[name])[:60]!r}, which cannot be")
    return Saved(**values)


def whole(folder: str, step: int) -> Saved:
    """What is known of a step's checkpoint, once every byte of its folder is what was written.

    Raises:
        InputError: it is not; beginning with the file, below the folder.
    """
    with _told_below(folder):
        names = set(_files(folder))
        _check_listed(folder, names, _listed(folder, names))
        for name in sorted(names):
            if os.path.basename(name) in _READ_BY_ORBAX:
                read_json(os.path.join(folder, name))
        return _saved_of(folder, step)


def glanced_at(folder: str, step: int) -> Saved:
    """The same, of which only state.json is compared with its sha256: gigabytes of arrays are not read."""
    with _told_below(folder):
        if not _is_plain(folder, os.path.isdir):
            raise InputError("is a link, or no folder")
        names = {name for name in (FILES, STATE) if _is_plain(os.path.join(folder, name), os.path.isfile)}
        listed = _listed(folder, names)
        _check_listed(folder, names, {name: listed[name] for name in (STATE,) if name in listed})
        return _saved_of(folder, step)


def _saved_of(folder: str, step: int) -> Saved:
    saved = read_saved(folder)
    if saved.step != step:
        raise InputError(f"{STATE}: step is {saved.step}, but the folder says {step}")
    return saved


@contextmanager
def _told_below(folder: str) -> Iterator[None]:
    """Makes errors begin with the file, as it is named below the folder, on one line that does no harm on a screen."""
    try:
        yield
    except InputError as error:
        raise InputError(readable(str(error).removeprefix(folder + os.sep))) from error
    except OSError as error:
        # A failing disk, a file that may not be read, or a training run that removes this checkpoint just now.
        name = os.path.relpath(error.filename or folder, folder)
        raise InputError(readable(f"{name}: {error.strerror}")) from error


# === The list of files ===


def _listed(folder: str, names: set[str]) -> dict[str, str]:
    if FILES not in names:
        raise InputError(f"{FILES} is missing, so saving it was not finished")
    data = read_document(os.path.join(folder, FILES), LARGEST_JSON)
    listed = parse_json(data, FILES, depth=1)
    if not isinstance(listed, dict) or not all(_is_sha256(digest) for digest in listed.values()):
        raise InputError(f"{FILES}: is no list of files with their sha256")
    own = listed.pop(FILES, None)
    if data != _list_bytes(listed, own) or (own and own != _digest_of_list(listed)):
        raise InputError(f"{FILES}: is not as it was written")
    return listed


def _list_bytes(listed: Mapping[str, str], own: str | None) -> bytes:
    """The one way to write the list, in which not a space may differ; `own` is its own sha256, without this line."""
    return json.dumps(dict(sorted(listed.items())) | ({FILES: own} if own else {}), indent=1).encode()


def _digest_of_list(listed: Mapping[str, str]) -> str:
    return hashlib.sha256(_list_bytes(listed, None)).hexdigest()


def _check_listed(folder: str, names: set[str], listed: Mapping[str, str]) -> None:
    there = names - {FILES}
    if missing := sorted(listed.keys() - there):
        raise InputError(f"{missing[0]}: is missing")
    if unknown := sorted(there - listed.keys()):
        raise InputError(f"{unknown[0]}: is not in {FILES}")
    for name in sorted(there):
        if file_sha256(os.path.join(folder, name)) != listed[name]:
            raise InputError(f"{name}: sha256 does not match")


def _files(folder: str) -> Iterator[str]:
    """The files below a folder, relative to it. Raises InputError for links, pipes, devices and far too many."""
    if not _is_plain(folder, os.path.isdir):
        raise InputError("is a link, or no folder")
    waiting, count = [("", 0)], 0
    while waiting:
        inner, depth = waiting.pop()
        with os.scandir(os.path.join(folder, inner)) as entries:
            modes = [(os.path.join(inner, item.name), item.stat(follow_symlinks=False).st_mode) for item in entries]
        count += len(modes)
        for name, mode in modes:
            if count > _MOST_FILES or depth > _DEEPEST:
                raise InputError(f"{name}: more files, or folders in each other, than a checkpoint has")
            if stat.S_ISDIR(mode):
                waiting.append((name, depth + 1))
            elif stat.S_ISREG(mode):
                yield name
            else:
                raise InputError(f"{name}: is a link, a pipe or a device, which no checkpoint holds")


def _is_plain(path: str, is_kind: Callable[[str], bool]) -> bool:
    return is_kind(path) and not os.path.islink(path)


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# === What each value may be ===


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_position(value: Any) -> bool:
    # What is computed with it is in int64, and a run takes more examples from here.
    return _is_count(value) and value < 2**53


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_score(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_logs(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_number(number) for number in value.values())


_FITS = {
    "step": _is_count,
    "position": _is_position,
    "data": _is_text,
    "configuration": _is_text,
    "score": _is_score,
    "logs": _is_logs,
}
