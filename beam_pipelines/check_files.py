"""The files of a dataset as `verify` meets them: is it a dataset, is every file there and what COMPLETED says?

Damage is a finding; what may not be read is none, because it says nothing of the dataset.
"""

import errno
import os
from typing import Any

from beam_pipelines.findings import Findings, refuse_forbidden
from beam_pipelines.seal import seal_text
from media.storage import list_files, read_bytes
from schemas.documents import parse_json
from schemas.errors import InputError, StrettoError, UsageError
from schemas.hashing import file_sha256
from schemas.manifest import COMPLETED, MANIFEST, sealed_files

_LARGEST_DOCUMENT = 1 << 30


def check_is_dataset(folder: str) -> None:
    """Returns where something in the folder is of a finished dataset, however damaged.

    Raises:
        UsageError: the folder is a training run, or nothing in it is of a dataset.
        InputError: the folder is not there, or has no COMPLETED.
        MachineError: the folder or its COMPLETED may not be read.
    """
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder. `stretto prepare … --output {folder}` makes a dataset there.")
    if not os.access(folder, os.R_OK | os.X_OK):
        refuse_forbidden(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    names = names_in(folder)
    if MANIFEST not in names and not any(is_shard(name) for name in names):
        if any(name.startswith("checkpoints/") for name in names):
            raise UsageError(
                f"{folder}: this is a training run, not a dataset. Give the folder that it was trained on."
            )
        if COMPLETED in names and MANIFEST not in sealed_files(text_of(folder, COMPLETED, Findings()))[0]:
            raise UsageError(
                f"{folder}: this is not a dataset: it holds no {MANIFEST} and no shard. Give another folder."
            )
    if COMPLETED not in names:
        raise InputError(f"{folder}: no finished dataset: there is no {COMPLETED}. Run its `stretto prepare` again.")


def names_in(folder: str) -> set[str]:
    """The files below a folder. Raises MachineError where it may not be listed."""
    try:
        return set(list_files(folder))
    except InputError as error:
        cause = error.__cause__
        refuse_forbidden(getattr(cause, "filename", None) or folder, cause)
        raise


def is_shard(name: str) -> bool:
    """Whether a file is named like a shard or the index of one."""
    return ".tfrecord-" in name


def check_completed(folder: str, findings: Findings) -> dict[str, str]:
    """Every file that COMPLETED lists is there with its sha256 (but for shards), and no other; returns the list."""
    listed = _completed(folder, findings)
    there = names_in(folder) - {COMPLETED}
    for name in sorted(listed.keys() - there):
        findings.add("missing", f"{COMPLETED} lists this file, it is not there", name)
    for name in sorted(there - listed.keys()) if listed else []:
        findings.add("extra", f"a file that {COMPLETED} does not list", name)
    for name in sorted(there & listed.keys()):
        if not is_shard(name) and _sha256(folder, name) != listed[name]:
            findings.add("sha256", f"is not what {COMPLETED} says", name)
    return listed


def _sha256(folder: str, name: str) -> str:
    try:
        return file_sha256(os.path.join(folder, name))
    except OSError as error:
        refuse_forbidden(os.path.join(folder, name), error)
        return f"cannot be read: {error.strerror}"


def _completed(folder: str, findings: Findings) -> dict[str, str]:
    """File -> sha256 as COMPLETED lists them, in the form of sha256sum; a damaged line is a finding."""
    text = text_of(folder, COMPLETED, findings)
    listed, wrong = sealed_files(text)
    for number in wrong:
        findings.add("completed", f"line {number} is no sha256 and file name", COMPLETED)
    if not listed:
        findings.add("completed", "lists no file", COMPLETED)
    elif seal_text(listed) != text:
        findings.add("completed", "is not written as it was: a line for each file, sorted", COMPLETED)
    return listed


def text_of(folder: str, name: str, findings: Findings) -> str:
    """A file as text; "" and a finding where it cannot be read. Raises MachineError where it may not be."""
    try:
        return read_bytes(os.path.join(folder, name), _LARGEST_DOCUMENT).decode()
    except (StrettoError, UnicodeDecodeError) as error:
        refuse_forbidden(os.path.join(folder, name), error.__cause__)
        findings.add("unreadable", str(error), name)
        return ""


def json_of(folder: str, name: str, findings: Findings) -> Any:
    """The values of a JSON file; None and a finding where it cannot be read. Raises as `text_of` does."""
    text = text_of(folder, name, findings)
    try:
        return parse_json(text, name) if text else None
    except InputError as error:
        findings.add("unreadable", str(error), name)
        return None
