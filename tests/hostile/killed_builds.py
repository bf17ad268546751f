"""Builds that are killed and continued: who is killed where, what was done by then, and how much of it was kept.

What it tries: SIGKILL of the launcher, of a worker, or of the process that reads inputs, at places that are told from
the files of the build: so many inputs surveyed or written, so many shards there, a certain file of the commit touched.
What must happen: the same command ends in the bytes of an undisturbed build, and what was finished is not done again.
Run as: python -m tests.hostile.killed_builds INPUT [--only FILE] [prepare's flags] to see the table.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from beam_pipelines.folder import Folder, read_lines, read_value
from beam_pipelines.progress import SURVEY, WRITE, ticks
from schemas.hashing import file_sha256
from tests.hostile import dying_prepare
from tests.hostile.dying_prepare import Blow

ROOT = Path(__file__).resolve().parents[2]
STRETTO = [sys.executable, "-c", "import sys; from stretto import main; sys.exit(main())"]
INPUTS = 24
"""Files of the build that the tests disturb."""
_PATIENCE_SECONDS = 120.0
_POLL_SECONDS = 0.0005


@dataclass(frozen=True)
class Ended:
    """How a command ended, and which of its processes were still there afterwards."""

    code: int
    said: str
    errors: str
    left: list[int]


def start(words: Sequence[str], entry: Sequence[str] = STRETTO) -> subprocess.Popen:
    """Starts `prepare` in a process group of its own."""
    return subprocess.Popen(
        [*entry, "prepare", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait(process: subprocess.Popen) -> Ended:
    """Waits for a command's end, and a moment for that of its processes."""
    said, errors = process.communicate(timeout=_PATIENCE_SECONDS)
    deadline = time.monotonic() + 5.0
    while (left := group(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return Ended(process.returncode, said, errors, left)


def run(words: Sequence[str]) -> Ended:
    """Runs `prepare` to its end."""
    return wait(start(words))


def group(leader: int) -> list[int]:
    """The living processes of a process group."""
    return [pid for pid, _, members_of, state in processes() if members_of == leader and state != "Z"]


def processes() -> Iterator[tuple[int, int, int, str]]:
    """(process, parent, group, state) of every process."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                    state, parent, members_of = file.read().rpartition(")")[2].split()[:3]
            except OSError:
                continue  # it ended while we looked
            yield int(entry), int(parent), int(members_of), state


@dataclass(frozen=True)
class Done:
    """What a build has done so far: inputs surveyed and written, and how many of them are in finished files.

    Attributes:
        surveyed: inputs read.
        written: inputs written to shards, finished or not.
        surveyed_safe: inputs whose reports are on the disk.
        written_safe: inputs in finished shards.
        shards: finished shards.
    """

    surveyed: int
    written: int
    surveyed_safe: int
    written_safe: int
    shards: int


def done(building: Path) -> Done:
    """What lies in a half-built folder, or in the dataset that it has become."""
    sealed = next((path for path in sealed_places(building) if path.exists()), None)
    if sealed is not None:
        ledger = [json.loads(line) for line in (sealed.parent / "items.jsonl").read_text().splitlines()]
        written = sum(line["status"] == "written" for line in ledger)
        shards = len(list(sealed.parent.glob("*.tfrecord-*")))
        return Done(len(ledger), written, len(ledger), written, shards)
    folder = Folder(str(building))
    reports = [read_value(str(path)) for path in (building / "progress" / "shards").glob("*.json")]
    parts = [sum(1 for _ in read_lines(str(path))) - 1 for path in (building / "survey").glob("*.jsonl")]
    counted = ticks(folder)
    return Done(
        counted[SURVEY],
        counted[WRITE],
        sum(parts),
        sum(len(report["items"]) for report in reports if report),
        len(reports),
    )


def sealed_places(building: Path) -> list[Path]:
    """Where a seal can be."""
    return [building / "COMPLETED", building / "COMPLETED.pending", building.with_suffix("") / "COMPLETED"]


@dataclass(frozen=True)
class Kill:
    """One kill: its stage and place in words, who is killed, with how many workers, and how the place is found.

    Attributes:
        stage: survey, shards or commit.
        place: in words.
        victim: driver, worker or reader (the process in which a worker has inputs read).
        workers: how many there are.
        reached: looks at the folder and says whether it is time; None where a `blow` does it from inside.
        blow: the exact place.
        overwrite: whether a dataset is replaced.
        ends: the exit code, where it is not that of the victim.
    """

    stage: str
    place: str
    victim: str
    workers: int
    reached: Callable[[Path], bool] | None = None
    blow: Blow | None = None
    overwrite: bool = False
    ends: int | None = None


def after(stage: str, inputs: int) -> Callable[[Path], bool]:
    """Whether so many inputs are through a stage, told from the progress files."""
    return lambda building: ticks(Folder(str(building)))[stage] >= inputs


def parts_there(count: int) -> Callable[[Path], bool]:
    """Whether the reports on so many parts of the listing are finished."""
    return lambda building: len(list((building / "survey").glob("*.jsonl"))) >= count


def shards_there(count: int) -> Callable[[Path], bool]:
    """Whether so many shards are finished."""
    return lambda building: len(list((building / "progress" / "shards").glob("*.json"))) >= count


KILLS = [
    Kill("survey", "1 input read", "driver", 1, after(SURVEY, 1)),
    Kill("survey", "23 inputs read", "driver", 1, after(SURVEY, 23)),
    Kill("survey", "every input read", "driver", 1, after(SURVEY, 45)),
    Kill("survey", "10 inputs read", "driver", 2, after(SURVEY, 10)),
    Kill("survey", "8 inputs read", "worker", 2, after(SURVEY, 8)),
    Kill("survey", "40 inputs read", "worker", 2, after(SURVEY, 40)),
    Kill("survey", "20 inputs read", "reader", 1, after(SURVEY, 20)),
    Kill("shards", "1 input written", "driver", 1, after(WRITE, 1)),
    Kill("shards", "9 shards there", "driver", 1, shards_there(9)),
    Kill("shards", "30 shards there", "driver", 1, shards_there(30)),
    Kill("shards", "12 shards there", "driver", 2, shards_there(12)),
    Kill("shards", "5 shards there", "worker", 2, shards_there(5)),
    Kill("shards", "20 shards there", "worker", 2, shards_there(20)),
    Kill("shards", "index renamed, shard not", "driver", 1, blow=Blow(r"idx\.tmp.* -> .*-00003-of.*idx", "os.rename")),
    Kill("commit", "ledger being written", "driver", 1, blow=Blow(r" -> .*items\.jsonl$", "os.rename")),
    Kill("commit", "manifest written", "driver", 1, blow=Blow(r" -> .*/config\.json$", "os.rename")),
    Kill("commit", "report being written", "worker", 2, blow=Blow(r" -> .*report\.html$", "os.rename")),
    Kill("commit", "report being written", "driver", 2, blow=Blow(r" -> .*report\.html$", "os.rename", launcher=True)),
    Kill("commit", "pending seal there", "driver", 1, blow=Blow(r"/items$", "os.rmdir")),
    Kill("commit", "working files being removed", "worker", 2, blow=Blow(r"^0000[0-9]\.jsonl$", "os.remove", times=9)),
    Kill("commit", "seal in its place", "driver", 1, blow=Blow(r"\.building -> ", "os.rename")),
    Kill("commit", "old one aside, new one not there", "driver", 1, None, Blow(r"\.building -> ", "os.rename"), True),
    Kill(
        "commit",
        "new one there, old one not gone",
        "worker",
        2,
        None,
        Blow(r"/CITATION", "os.remove", worker=True),
        True,
        0,
    ),
]


@dataclass(frozen=True)
class Outcome:
    """A kill, what was done by then, how the command ended, and how the next one did."""

    kill: Kill
    before: Done
    ended: Ended
    after: Ended

    @property
    def kept_shards(self) -> int:
        """Shards that were not written again."""
        return json.loads(self.after.said)["kept_shards"] if self.after.said else 0

    @property
    def kept(self) -> int:
        """Inputs surveyed and inputs written that were not surveyed or written again."""
        only_last_steps = ("nothing is surveyed again", "only the dataset that was replaced")
        if self.after is self.ended or any(words in self.after.errors for words in only_last_steps):
            return self.before.surveyed + self.before.written
        surveyed = re.search(r"continuing: (\d+) of \d+ inputs are surveyed", self.after.errors)
        written = self.before.written_safe if self.kept_shards == self.before.shards else 0
        return (int(surveyed[1]) if surveyed else 0) + written

    @property
    def share(self) -> float:
        """Of the inputs surveyed and written when the build was killed, how many were not done again."""
        return self.kept / max(1, self.before.surveyed + self.before.written)


def strike(kill: Kill, words: Sequence[str], output: Path) -> tuple[Done, Ended]:
    """Starts the build and kills whom the kill says; returns what was done by then, and how the command ended."""
    more = [*words, "--output", str(output), "--workers", str(kill.workers), *(["--overwrite"] * kill.overwrite)]
    building = Path(f"{output}.building")
    if kill.blow is not None:
        ended = wait(start(more, dying_prepare.words(kill.blow)))
        return done(building), ended
    assert kill.reached is not None
    process = start(more)
    while process.poll() is None and not kill.reached(building):
        time.sleep(_POLL_SECONDS)
    assert process.poll() is None, f"ended before {kill.place}: {process.communicate()}"
    os.kill(victim_of(kill, process.pid, building), signal.SIGKILL)
    ended = wait(process)
    return done(building), ended


def victim_of(kill: Kill, driver: int, building: Path) -> int:
    """The process to kill."""
    if kill.victim == "driver":
        return driver
    if kill.victim == "reader":
        return next(pid for pid, parent, _, state in processes() if parent == driver and state != "Z")
    # The names of the progress files end in the number of the process that writes them.
    names = [name for name in os.listdir(building / "progress") if re.match(rf"({SURVEY}|{WRITE})-\d+$", name)]
    return int(max(names, key=lambda name: os.stat(building / "progress" / name).st_mtime_ns).rpartition("-")[2])


def contents(output: Path) -> dict[str, str]:
    """sha256 of every shard, index, of the manifest and of the ledger."""
    wanted = [*output.glob("*.tfrecord-*"), *output.glob("index/*"), output / "manifest.json", output / "items.jsonl"]
    return {str(path.relative_to(output)): file_sha256(str(path)) for path in wanted}


def litter(output: Path) -> list[str]:
    """What a build has left beside its dataset."""
    return sorted(path.name for path in output.parent.iterdir() if path.name.startswith(f"{output.name}."))


def attack(kill: Kill, words: Sequence[str], output: Path) -> Outcome:
    """Kills a build and continues it with the same command."""
    before, ended = strike(kill, words, output)
    if ended.code == 0:
        return Outcome(kill, before, ended, ended)
    more = ["--overwrite"] * kill.overwrite
    return Outcome(kill, before, ended, run([*words, "--output", str(output), "--json", *more]))


def row(outcome: Outcome) -> str:
    """One line of the table."""
    kill, before = outcome.kill, outcome.before
    return (
        f"{kill.stage:<7} {kill.place:<33} {kill.victim:<7} {kill.workers}  {outcome.ended.code:>4} "
        f"{before.surveyed:>5} {before.written:>5} {before.shards:>5} {outcome.kept:>5} {outcome.share:>6.0%} "
        f"{outcome.after.code:>4}"
    )


HEADER = (
    f"{'stage':<7} {'killed when':<33} {'who':<7} {'n':<2} {'exit':>4} {'read':>5} {'enc.':>5} {'shrds':>5} "
    f"{'kept':>5} {'share':>6} {'then':>4}"
)


def main(arguments: list[str]) -> int:
    """Prints the table; 1 where a dataset differs from the undisturbed one."""
    words, wrong = ["maestro", "--input", *arguments], 0
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Path(folder, "undisturbed")
        assert run([*words, "--output", str(undisturbed)]).code == 0
        print(HEADER)
        for number, kill in enumerate(KILLS):
            output = Path(folder, f"{number}", "out")
            if kill.overwrite:
                assert run([*words, "--output", str(output), "--window", "512"]).code == 0
            outcome = attack(kill, words, output)
            same = contents(output) == contents(undisturbed) and not litter(output)
            wrong += not same
            print(row(outcome), "" if same else f"DIFFERS {outcome.after.errors} {litter(output)}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
