"""The seal of a dataset: COMPLETED, written last, with the sha256 of every other file in the format of `sha256sum`."""

import os
from collections.abc import Iterator, Mapping

from schemas.documents import read_document
from schemas.errors import InputError
from schemas.manifest import COMPLETED, MAX_MANIFEST_BYTES, sealed_files

PENDING = COMPLETED + ".pending"
"""The seal while working files are still being removed: whoever finds it finishes the commit."""


def seal_text(checksums: Mapping[str, str]) -> str:
    """The text of COMPLETED, sorted by path."""
    return "".join(f"{checksums[path]}  {path}\n" for path in sorted(checksums))


def read_seal(folder: str) -> dict[str, str]:
    """Path -> sha256 of every file of a finished dataset. Raises InputError for anything that is no seal."""
    path = os.path.join(folder, COMPLETED)
    try:
        listed, wrong = sealed_files(read_document(path, MAX_MANIFEST_BYTES).decode())
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a list of checksums ({error}). Run `stretto verify` on {folder}.") from error
    if wrong or not listed:
        raise InputError(f"{path}: not a list of checksums. Run `stretto verify` on {folder}.")
    return listed


def files(folder: str) -> Iterator[str]:
    """Every file below the folder, relative to it."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/") for name in sorted(names))
