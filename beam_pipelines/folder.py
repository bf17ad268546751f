"""The folder of a build: where working files lie; they are written so that a kill leaves the old one or the new one."""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from media.storage import cannot_write

WORKING = ("items", "kept", "survey", "progress", "workers")
"""Everything that is removed before COMPLETED is written."""

_SCRATCH = re.compile(r"\.tmp-\d+$|^\.stretto-.*\.tmp$")


@dataclass(frozen=True)
class Folder:
    """Names inside `<output>.building/`."""

    root: str

    def path(self, *names: str) -> str:
        """A path below the folder."""
        return os.path.join(self.root, *names)

    def items(self, part: int) -> str:
        """One part of the listing."""
        return self.path("items", f"{part:05d}.jsonl")

    def kept(self, part: int) -> str:
        """What a finished dataset knows of one part of the listing, where it is made again."""
        return self.path("kept", f"{part:05d}.jsonl")

    def survey(self, part: int) -> str:
        """The reports on one part of the listing."""
        return self.path("survey", f"{part:05d}.jsonl")

    @property
    def state(self) -> str:
        """Which build this folder belongs to."""
        return self.path("progress", "build.json")

    @property
    def outcome(self) -> str:
        """How the graph ended where no exception can say so."""
        return self.path("progress", "outcome.json")

    @property
    def decisions(self) -> str:
        """What was decided about every input, in order of the listing."""
        return self.path("progress", "decisions.jsonl")

    @property
    def plan(self) -> str:
        """Shards, what crosses the splits and totals, as decided."""
        return self.path("progress", "plan.json")

    def references(self, shard: str) -> str:
        """The inputs of one shard."""
        return self.path("progress", "references", shard + ".jsonl")

    def shard_report(self, shard: str) -> str:
        """What is known of a finished shard."""
        return self.path("progress", "shards", shard + ".json")


def replace_file(path: str, data: bytes | str) -> None:
    """Writes a working file whole: a temporary name, then a rename. Not synced: what a power cut takes is redone.

    Raises:
        MachineError: it cannot be written; the disk is full, say.
    """
    with _replacing(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def write_lines(path: str, values: Iterable[Any]) -> None:
    """JSON values, one a line, ASCII only so that odd file names survive. Raises MachineError like `replace_file`."""
    with _replacing(path) as file:
        file.writelines(json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n" for value in values)


def read_lines(path: str) -> Iterator[Any]:
    """The values of `write_lines`."""
    with open(path, encoding="ascii") as file:
        yield from map(json.loads, file)


def write_value(path: str, value: Any) -> None:
    """One JSON value. Raises MachineError like `replace_file`."""
    replace_file(path, json.dumps(value, separators=(",", ":")))


def read_value(path: str) -> Any:
    """The value of `write_value`, or None where there is no whole file."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError, RecursionError):
        return None


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[IO[bytes]]:
    scratch = f"{path}.tmp-{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(scratch, "wb") as file:
            yield file
        os.replace(scratch, path)
    except OSError as error:
        # On a full disk half a file would take the room that its second try needs.
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        raise cannot_write(path, error) from error


def remove_scratch(folder: Folder) -> None:
    """Removes the files that killed processes had begun to write. Nobody else may be writing into the folder."""
    for place, _, names in os.walk(folder.root):
        for name in filter(_SCRATCH.search, names):
            os.unlink(os.path.join(place, name))
