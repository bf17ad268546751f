"""The outcome: how a stage ended, told through a file, because an engine hands on an error as text only.

Its room is taken while there is some: a full disk must not silence the news of the full disk.
"""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator

from beam_pipelines.folder import Folder, read_value, replace_file
from media.storage import cannot_write
from schemas.errors import InputError, Interrupted, MachineError, StrettoError, UsageError, error_of

_ROOM_BYTES = 1 << 15
_LONGEST_MESSAGE = 2_500
"""Characters; the room holds them even if JSON needs twelve bytes for each."""

_OF_THE_MACHINE = frozenset(
    {
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENODEV,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EROFS,
        errno.ESTALE,
    }
)
_OF_THE_FOLDER = frozenset({errno.EACCES, errno.ENOENT, errno.ENOTDIR, errno.EPERM})
_KINDS = {kind.__name__: kind for kind in (UsageError, InputError, MachineError, Interrupted)}
_RAISED_BY_A_STAGE = re.compile(r"schemas\.errors\.(\w+): (.*)")
_ENGINES_WORDS = re.compile(r" \[while running '[^']*'\]$")


def reserve(folder: Folder) -> None:
    """Takes the room of the outcome, which says nothing yet. Raises MachineError where there is none."""
    replace_file(folder.outcome, b" " * _ROOM_BYTES)


def tell(folder: Folder, error: StrettoError) -> None:
    """Writes down how a stage ended, into the room that was taken; where nothing can be written, nothing is."""
    told = {"kind": type(error).__name__, "exit_code": error.exit_code, "message": str(error)[:_LONGEST_MESSAGE]}
    with contextlib.suppress(OSError):
        descriptor = os.open(folder.outcome, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.pwrite(descriptor, json.dumps(told).encode().ljust(_ROOM_BYTES), 0)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def told(folder: Folder) -> Iterator[None]:
    """Writes down an error that a person can act on, so that the launcher can end with its message and code.

    Raises:
        MachineError: in place of an OSError that is the surroundings' fault: a full disk, a folder that is gone.
    """
    try:
        yield
    except StrettoError as error:
        tell(folder, error)
        raise
    except OSError as error:
        if not _is_of_surroundings(folder, error):
            raise
        failure = cannot_write(str(error.filename or folder.root), error)
        tell(folder, failure)
        raise failure from error


def explained(folder: Folder, error: Exception) -> Exception:
    """The error that a stage told of, in place of what the engine made of it; the error itself if none did."""
    told = read_value(folder.outcome)
    return error_of(told["exit_code"], told["message"]) if told else _in_plain_words(error)


def _in_plain_words(error: Exception) -> Exception:
    """A stage's error that the engine put into its own words: it adds to ours, or makes a text that ends with it."""
    said = str(error).strip()
    if isinstance(error, StrettoError):
        return error_of(error.exit_code, _ENGINES_WORDS.sub("", said))
    last = _RAISED_BY_A_STAGE.fullmatch(_ENGINES_WORDS.sub("", said.splitlines()[-1] if said else ""))
    return _KINDS[last[1]](last[2]) if last and last[1] in _KINDS else error


def _is_of_surroundings(folder: Folder, error: OSError) -> bool:
    if error.errno in _OF_THE_MACHINE:
        return True
    where = os.path.abspath(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else ""
    return error.errno in _OF_THE_FOLDER and os.path.commonpath([where or os.sep, folder.root]) == folder.root
