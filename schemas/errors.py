"""The errors a user may meet, each with the exit code that scripts rely on."""

import os
import traceback

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class StrettoError(Exception):
    """Something a person can act on. The message names the file, the key and the value, and says what to do."""

    exit_code = 1


class UsageError(StrettoError):
    """Another command would work: a wrong flag, an existing output, a dataset that does not fit."""

    exit_code = 2


class InputError(StrettoError):
    """The input cannot be used, or too much of it is bad."""

    exit_code = 3


class MachineError(StrettoError):
    """The surroundings fail: credentials, a missing extra, a locked folder, a full disk."""

    exit_code = 4


class VerificationError(StrettoError):
    """A dataset is not what its manifest says."""

    exit_code = 5


class DivergedError(StrettoError):
    """Training produced a loss that is not a finite number."""

    exit_code = 6


class Interrupted(StrettoError):
    """Stopped from outside with the state saved: the same command continues."""

    exit_code = 75


class StoppedByHand(Interrupted):
    """Stopped by Ctrl-C with the state saved: the same command continues."""

    exit_code = 130


class MissingExtra(MachineError):
    """A package of an extra is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed. Add it with: pip install 'stretto[{extra}]'")
        self.package = package
        self.extra = extra


class Unreadable(InputError):
    """An input file that cannot become a piece: quarantined, and the job goes on.

    Attributes:
        reason: a short word for the ledger, for example `not-midi`.
        offset: the byte of the file where reading failed, or None where it is not known.
        track: the number of the track where reading failed, from 0, or None.
    """

    def __init__(self, reason: str, message: str, offset: int | None = None, track: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.offset = offset
        self.track = track


def error_of(exit_code: int, message: str) -> StrettoError:
    """The error of an exit code, for one that was told by another process."""
    kinds = (UsageError, InputError, MachineError, VerificationError, DivergedError, Interrupted)
    return {kind.exit_code: kind for kind in kinds}.get(exit_code, StrettoError)(message)


def place_of(error: BaseException) -> str:
    """Where an exception was raised, without the folders of this machine, so that equal builds say the same."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    inside = frame.filename.startswith(_ROOT + os.sep)
    # What is installed inside the tree, in a virtual environment, is no part of it.
    file = os.path.relpath(frame.filename, _ROOT) if inside and "site-packages" not in frame.filename else ""
    return f"{file or os.path.basename(frame.filename)}, line {frame.lineno}, in {frame.name}"
