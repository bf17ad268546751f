"""The last steps of a commit, when all files are there: working files removed, the seal renamed, the folder renamed.

Each is harmless when repeated, so that whoever finds a pending seal finishes what is left. A dataset that is replaced
is moved aside first and removed last, its seal at the very end: what a kill leaves of it is still known for what it is.
"""

import contextlib
import os
import shutil

from beam_pipelines.folder import WORKING
from beam_pipelines.seal import PENDING
from media.storage import sync_folder
from schemas.errors import UsageError
from schemas.manifest import COMPLETED, MANIFEST

REPLACED = ".replaced"


def is_dataset(path: str) -> bool:
    """Whether a finished dataset is there."""
    return all(os.path.exists(os.path.join(path, name)) for name in (COMPLETED, MANIFEST))


def is_pending(building: str) -> bool:
    """Whether only the last steps of a commit are left."""
    return any(os.path.exists(os.path.join(building, name)) for name in (PENDING, COMPLETED))


def finish(output: str, overwrite: bool) -> None:
    """The last steps, each harmless when repeated. Raises UsageError where another dataset is in the way."""
    output = os.path.abspath(output)
    building, replaced = output + ".building", output + REPLACED
    if os.path.isdir(building):
        for name in WORKING:
            _remove(os.path.join(building, name))
        with contextlib.suppress(FileNotFoundError):
            os.replace(os.path.join(building, PENDING), os.path.join(building, COMPLETED))
        sync_folder(building)
        _set_aside(output, replaced, overwrite)
        os.rename(building, output)
        sync_folder(os.path.dirname(output))
    remove_replaced(output)


def remove_replaced(output: str) -> bool:
    """Removes the dataset that another has replaced; returns whether there was one. What is no dataset stays."""
    replaced = os.path.abspath(output) + REPLACED
    with contextlib.suppress(OSError):
        os.rmdir(replaced)  # empty: killed when it was about to go
        return True
    if not os.path.exists(os.path.join(replaced, COMPLETED)):
        return False
    if not os.path.islink(replaced):
        for name in os.listdir(replaced):
            if name != COMPLETED:
                _remove(os.path.join(replaced, name))
    _remove(replaced)
    return True


def _set_aside(output: str, replaced: str, overwrite: bool) -> None:
    if not os.path.isdir(output) or not os.listdir(output):
        return
    if not overwrite:
        raise UsageError(
            f"{output}: a dataset appeared there while this one was built. Move it away, or add --overwrite."
        )
    if os.path.lexists(replaced) and not remove_replaced(output):
        raise UsageError(
            f"{replaced}: is in the way of the dataset that is replaced. Move it; the same command continues."
        )
    os.rename(output, replaced)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
