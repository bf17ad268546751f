"""Builds killed at every single step: before the n-th change of a file, for each n, then continued.

What it tries: a process dies before the first, the second, … change that it makes to a file of its build, be it in the
commit, while another build's half is thrown away, or anywhere. What must happen: at no moment is there half a dataset
under the output's name; the same command ends in the bytes of an undisturbed build, with nothing left beside it; and
no file is written under its final name but whole.
Run as: python -m tests.hostile.every_step FOLDER SCENE [STRIDE]; prints one line of JSON for each step.
"""

import dataclasses
import io
import json
import os
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from beam_pipelines import stages
from beam_pipelines.build import check_half_built, prepare
from beam_pipelines.commit import commit
from beam_pipelines.config import Build
from beam_pipelines.folder import Folder
from beam_pipelines.seal import read_seal
from schemas.errors import StrettoError
from schemas.hashing import file_sha256
from tests.beam_pipelines.midi_files import build_of, midi_folder
from tests.hostile.dying_prepare import on_change
from tests.hostile.killed_builds import contents, litter

_INPUTS = 5
_WHOLE = 0
_CRASHED = 70
# Marks, locks and room that is taken beforehand: written in place, and nobody takes half of one for a whole.
_IN_PLACE = re.compile(r"\.lock$|/workers$|/outcome\.json$|/progress/(survey|write|writing|scratch)\b|^/dev/null$")


def in_child(act: Callable[[], object], kill_at: int | None = None, below: str = "") -> tuple[int, int]:
    """Runs a function in a forked process that dies before its n-th change; returns (how it ended, changes made)."""
    counter, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(counter)
        if kill_at is not None:
            _die_at(kill_at, below, told)
        leave(act)
    os.close(told)
    with os.fdopen(counter, "rb") as changes:
        made = len(changes.read())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), made


def leave(act: Callable[[], object]) -> NoReturn:
    """Runs a function and ends this process with the exit code that a command would have."""
    code = _CRASHED
    try:
        act()
        code = _WHOLE
    except StrettoError as error:
        os.write(2, f"{error}\n".encode())
        code = error.exit_code
    except BaseException:  # noqa: BLE001  a forked child must end here, whatever it meets
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _die_at(kill_at: int, below: str, told: int) -> None:
    made = 0

    def count(event: str, paths: str) -> None:
        nonlocal made
        last = paths.rpartition(" -> ")[2]
        if os.path.isabs(last) and not last.startswith(below):
            return
        if event == "open" and not (".tmp" in os.path.basename(last) or _IN_PLACE.search(last)):
            os.write(2, f"written in place: {last}\n".encode())
            os._exit(_CRASHED)
        os.write(told, b".")
        made += 1
        if made == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    on_change(count)


def quietly(build: Build) -> None:
    """Prepares without a word."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        prepare(build, [], as_json=False)


@dataclass(frozen=True)
class Scene:
    """What is there before, who is killed doing what, and what is typed next.

    Attributes:
        before: makes what is there.
        act: is killed at each step.
        then: the builds typed afterwards; each must end in its own undisturbed bytes.
    """

    before: Callable[[], None]
    act: Callable[[], None]
    then: tuple[Build, ...]


def scene(name: str, here: Path) -> Scene:
    """A scene by its name, in a folder that has `in` with the inputs."""
    build = dataclasses.replace(build_of(here), shards=1)
    other = dataclasses.replace(build, transpose=(0, 1))
    over, other_over = (dataclasses.replace(one, overwrite=True) for one in (build, other))

    def thrown_away() -> None:
        check_half_built(other_over, Folder(other_over.building))

    scenes = {
        "commit": Scene(lambda: until_commit(build), lambda: commit(build, HOW), (build,)),
        "commit over another": Scene(lambda: (quietly(other), until_commit(over)), lambda: commit(over, HOW), (over,)),
        "throw away": Scene(lambda: until_commit(build), thrown_away, (other_over,)),
        "throw away, then the first": Scene(lambda: until_commit(build), thrown_away, (over,)),
        "throw away a pending one, then the first": Scene(lambda: until_removal(build), thrown_away, (over,)),
        "whole": Scene(lambda: None, lambda: quietly(build), (build,)),
        "whole over another": Scene(lambda: quietly(other), lambda: quietly(over), (over,)),
    }
    return scenes[name]


HOW = {"runner": "DirectRunner", "workers": 1, "kept_shards": 0, "started": "", "argv": []}


def until_commit(build: Build) -> None:
    """A build that died when it was about to commit."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def act() -> None:
        stages.commit = die
        quietly(build)

    assert in_child(act)[0] == -signal.SIGKILL


def until_removal(build: Build) -> None:
    """A build that died when it was about to remove its working files, its seal pending."""

    def die(event: str, paths: str) -> None:
        if event == "os.rmdir" and paths.endswith("items"):
            os.kill(os.getpid(), signal.SIGKILL)

    def act() -> None:
        on_change(die)
        quietly(build)

    assert in_child(act)[0] == -signal.SIGKILL


def half_a_dataset(output: Path) -> str:
    """What is wrong with what lies under the output's name; "" where nothing is."""
    if not output.exists():
        return ""
    try:
        seal = read_seal(str(output))
    except StrettoError as error:
        return str(error)
    return next((name for name, sha in seal.items() if file_sha256(str(output / name)) != sha), "")


def steps(root: Path, name: str, stride: int) -> Iterator[dict[str, object]]:
    """Kills at every stride-th step; yields what was found after each."""
    here = root / "here"
    midi_folder(here / "in", _INPUTS)
    staged = scene(name, here)
    wanted = undisturbed(here, staged.then)
    in_child_checked(staged.before)
    shutil.copytree(here, root / "base")
    kill_at, code = 1, -signal.SIGKILL
    while code == -signal.SIGKILL:
        shutil.rmtree(here)
        shutil.copytree(root / "base", here)
        code, made = in_child(staged.act, kill_at, str(here))
        between, there = half_a_dataset(here / "out"), (here / "out").exists()
        for build, bytes_of_it in zip(staged.then, wanted, strict=True):
            then = in_child(lambda build=build: quietly(build))[0]
            same = contents(here / "out") == bytes_of_it
            yield {
                "step": made,
                "killed": code == -signal.SIGKILL,
                "code": code,
                "there": there,
                "half": between,
                "overwrite": build.overwrite,
                "then": then,
                "same": same,
                "litter": litter(here / "out"),
                "wrong": half_a_dataset(here / "out"),
            }
        kill_at += stride


def in_child_checked(act: Callable[[], None]) -> None:
    """Runs what makes the scene; the engine must not be started in this process, which forks."""
    code, _ = in_child(act)
    assert code == _WHOLE, code


def undisturbed(here: Path, builds: tuple[Build, ...]) -> list[dict[str, str]]:
    """The bytes of each build in peace."""
    found = []
    for build in builds:
        in_child_checked(lambda build=build: quietly(dataclasses.replace(build, output=str(here / "peace"))))
        found.append(contents(here / "peace"))
        shutil.rmtree(here / "peace")
    return found


def main(arguments: list[str]) -> None:
    """Prints what was found after each step."""
    for found in steps(Path(arguments[0]), arguments[1], int(arguments[2]) if len(arguments) > 2 else 1):
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
