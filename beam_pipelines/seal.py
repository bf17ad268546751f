"""The seal of a dataset: COMPLETED, written last, with the sha256 of every other file in the format of `sha256sum`."""

import os
from collections.abc import Iterator, Mapping

from schemas.errors import InputError
from schemas.manifest import COMPLETED

PENDING = COMPLETED + ".pending"
"""The seal while working files are still being removed: whoever finds it finishes the commit."""


def seal_text(checksums: Mapping[str, str]) -> str:
    """The text of COMPLETED, sorted by path."""
    return "".join(f"{checksums[path]}  {path}\n" for path in sorted(checksums))


def read_seal(folder: str) -> dict[str, str]:
    """Path -> sha256 of every file of a finished dataset. Raises InputError for anything that is no seal."""
    path = os.path.join(folder, COMPLETED)
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no finished dataset is here ({error}). Run its `stretto prepare` again.") from error
    if any(line[64:66] != "  " for line in lines):
        raise InputError(f"{path}: not a list of checksums. Run `stretto verify` on {folder}.")
    return {line[66:]: line[:64] for line in lines}


def files(folder: str) -> Iterator[str]:
    """Every file below the folder, relative to it."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/") for name in sorted(names))
