"""Builds that start in the same instant into one folder, again and again.

What it tries: several processes, ready and waiting, are let go at once and all prepare the same output; with nothing
there, with a dataset to replace, with a commit that was killed before its last steps. What must happen: one works, the
others are refused with its name (4), or, when it is done already, because a dataset is there (2).
Run as: python -m tests.hostile.racing_builds FOLDER SCENE ROUNDS; prints one line of JSON for each round.
"""

import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from beam_pipelines.config import Build
from tests.beam_pipelines.midi_files import build_of, midi_folder
from tests.hostile.every_step import half_a_dataset, in_child_checked, leave, quietly, undisturbed, until_removal
from tests.hostile.killed_builds import contents, litter

_INPUTS, _RACERS = 4, 3


def raced(build: Build) -> list[dict[str, object]]:
    """How each racer ended, and what it said; all start when the last one is ready."""
    gate, opener = os.pipe()
    racers = [_racer(build, gate, opener) for _ in range(_RACERS)]
    os.close(gate)
    os.close(opener)
    ended = []
    for child, said in racers:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        ended.append({"pid": child, "code": code, "said": said.read()})
        said.close()
    return ended


def _racer(build: Build, gate: int, opener: int) -> tuple[int, IO[str]]:
    said = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed when it was read

    def wait_and_prepare() -> None:
        os.dup2(said.fileno(), 2)
        os.close(opener)
        os.read(gate, 1)
        quietly(build)

    child = os.fork()
    if child == 0:
        leave(wait_and_prepare)
    return child, said


def rounds(root: Path, scene: str, count: int) -> Iterator[dict[str, object]]:
    """Lets builds race; yields how they ended and what is there then."""
    here, before = root / "here", root / "before"
    midi_folder(here / "in", _INPUTS)
    build = dataclasses.replace(build_of(here), shards=1, overwrite=scene == "replace")
    (wanted,) = undisturbed(here, (build,))
    if scene == "replace":
        in_child_checked(lambda: quietly(dataclasses.replace(build, transpose=(0, 1))))
    elif scene == "half finished":
        until_removal(build)
    shutil.copytree(here, before)
    for _ in range(count):
        shutil.rmtree(here)
        shutil.copytree(before, here)
        ended = raced(build)
        same = contents(here / "out") == wanted
        yield {"ended": ended, "same": same, "litter": litter(here / "out"), "wrong": half_a_dataset(here / "out")}


def main(arguments: list[str]) -> None:
    """Prints what was found after each round."""
    for found in rounds(Path(arguments[0]), arguments[1], int(arguments[2])):
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
