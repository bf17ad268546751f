"""How fast `prepare` is: CPU seconds for each performed hour of MAESTRO with 35 variants, all processes together.

    prepare.py [--data DIR] [--peer SCRIPT] [--runs N] [--peer-all]

Three questions. What does an additional file cost, against the classic way (a script that parses, applies the pedal,
stretches, transposes, quantises and encodes with note-seq, and writes nothing)? The difference of two list sizes
answers, start-up cancels out. What does the whole job cost, start-up included? How much faster are two workers than
one, after it?
"""

import argparse
import cProfile
import csv
import json
import os
import pstats
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = ("--transpose=-3..3", "--stretch=0.95,0.975,1,1.025,1.05")
MAIN = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from stretto import main; sys.exit(main())"
FEW_FILES = 5


@dataclass(frozen=True)
class Cost:
    """What one run took: CPU seconds of all its processes, wall seconds, hours of train originals, files."""

    cpu: float
    wall: float
    hours: float
    files: int


def data_folder() -> Path:
    """Where real music lies: STRETTO_TEST_DATA, else what tests take."""
    sys.path.insert(0, str(ROOT))
    from tests.conftest import data_folder as find

    return find()


def train_files(corpus: Path, names: Sequence[str] | None = None) -> list[str]:
    """The train files of MAESTRO, all or those of a list, sorted."""
    with open(corpus / "maestro-v3.0.0.csv", encoding="utf-8", newline="") as file:
        found = sorted(row["midi_filename"] for row in csv.DictReader(file) if row["split"] == "train")
    return [name for name in found if names is None or name in names]


def measured(command: Sequence[str]) -> tuple[float, float, str]:
    """CPU seconds (children of children included), wall seconds and output of a command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall, done.stdout


def ours(corpus: Path, files: Sequence[str], workers: int, *more: str) -> Cost:
    """One build of the files, shards written."""
    with tempfile.TemporaryDirectory() as folder:
        listed, output = Path(folder) / "files.txt", Path(folder) / "out"
        listed.write_text("\n".join(files))
        command = [sys.executable, "-c", MAIN, "prepare", "maestro", "--input", str(corpus), "--output", str(output)]
        command += [*VARIANTS, "--only", str(listed), "--workers", str(workers), *more]
        cpu, wall, _ = measured(command)
        stats = json.loads((output / "stats.json").read_text())
        return Cost(cpu, wall, stats["splits"]["train"]["centiseconds"] / 360_000, len(files))


def peers(script: Path, corpus: Path, files: Sequence[str]) -> Cost:
    """One run of the classic way."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "files.txt"
        listed.write_text("\n".join(files))
        cpu, wall, text = measured([sys.executable, str(script), str(corpus), "--list", str(listed)])
    hours = re.search(r"hours ([0-9.]+)", text)
    assert hours is not None, text
    return Cost(cpu, wall, float(hours[1]), len(files))


def median(costs: Sequence[Cost]) -> Cost:
    """The run with the medians of CPU and wall seconds."""
    cpu, wall = (statistics.median(getattr(cost, name) for cost in costs) for name in ("cpu", "wall"))
    return Cost(cpu, wall, costs[0].hours, costs[0].files)


def show(name: str, cost: Cost) -> None:
    """One row of the table."""
    per_hour = cost.cpu / cost.hours
    print(
        f"{name:<44}{cost.files:>6}{cost.hours:>9.2f}{cost.cpu:>10.2f}{cost.wall:>10.2f}{per_hour:>14.3f}", flush=True
    )


def less(more: Cost, fewer: Cost) -> Cost:
    """What the additional files of a longer list cost."""
    return Cost(more.cpu - fewer.cpu, more.wall - fewer.wall, more.hours - fewer.hours, more.files - fewer.files)


def compare(
    corpus: Path, small: Sequence[str], everything: Sequence[str], script: Path | None, runs: int, all_: bool
) -> None:
    """The table against the classic way."""
    few = small[:: max(1, len(small) // FEW_FILES)][:FEW_FILES]
    print(f"{'':<44}{'files':>6}{'hours':>9}{'CPU s':>10}{'wall s':>10}{'CPU s / hour':>14}")
    rows = {}
    for label, files in (("few", few), ("small list", small), ("all train files", everything)):
        rows[label] = median([ours(corpus, files, 1) for _ in range(runs)])
        show(f"stretto, 1 worker, {label}", rows[label])
    added = less(rows["small list"], rows["few"])
    show("stretto, an additional file (small list)", added)
    show("stretto, an additional file (all)", less(rows["all train files"], rows["few"]))
    two = median([ours(corpus, everything, 2) for _ in range(runs)])
    show("stretto, 2 workers, all train files", two)
    if script is None:
        print("no script of the classic way was given (--peer): nothing to compare with")
        return
    peer_few, peer_small = peers(script, corpus, few), peers(script, corpus, small)
    show("classic, few", peer_few)
    show("classic, small list", peer_small)
    peer_added = less(peer_small, peer_few)
    show("classic, an additional file", peer_added)
    peer_all = peers(script, corpus, everything) if all_ else peer_small
    if all_:
        show("classic, all train files", peer_all)
    best = min((rows["all train files"], two), key=lambda cost: cost.cpu)
    ratio = (peer_added.cpu / peer_added.hours) / (added.cpu / added.hours)
    print(f"\nan additional file: {ratio:.0f} times less CPU")
    whole = (peer_all.cpu / peer_all.hours) / (best.cpu / best.hours)
    source = "on the same files" if all_ else "on the small list; its cost is linear"
    print(f"all train files, start-up included: {whole:.0f} times less CPU a performed hour (classic {source})")


def scale(corpus: Path, few: Sequence[str], everything: Sequence[str], runs: int) -> None:
    """Two workers against one, after start-up, with 32 shards."""
    walls = {}
    for workers in (1, 2):
        start = statistics.median(ours(corpus, few, workers, "--shards", "32").wall for _ in range(runs))
        whole = statistics.median(ours(corpus, everything, workers, "--shards", "32").wall for _ in range(runs))
        walls[workers] = whole - start
        print(
            f"{workers} worker{'s' * (workers > 1)}: {whole:.2f} s in all, {start:.2f} s to start and end with one file"
        )
    print(
        f"two workers are {walls[1] / walls[2]:.2f} times faster than one after start-up (32 shards, median of {runs})"
    )


def profile(corpus: Path, files: Sequence[str]) -> None:
    """Where the time of survey and writing goes, by function."""
    sys.path.insert(0, str(ROOT))
    from beam_pipelines.config import Build
    from beam_pipelines.corpora.maestro import Maestro
    from beam_pipelines.decide import decide, write_plan
    from beam_pipelines.folder import Folder
    from beam_pipelines.survey import survey
    from beam_pipelines.write import write_shard
    from schemas.representations.events import Events

    with tempfile.TemporaryDirectory() as place:
        build = Build(
            Maestro(), Events(), str(corpus), place, tuple(range(-3, 4)), (0.95, 0.975, 1.0, 1.025, 1.05), shards=1
        )
        folder, profiler = Folder(place), cProfile.Profile()
        items = [item for item in build.corpus.items(str(corpus)) if item.path in set(files)]
        profiler.enable()
        reports = [survey(build, item) for item in items]
        plan = decide(build, reports)
        write_plan(build, folder, reports, plan)
        for shard in plan.shards:
            write_shard(build, folder, shard, lambda: None)
        profiler.disable()
    pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(22)


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds maestro/; by default the one of the tests")
    parser.add_argument("--peer", type=Path, help="script of the classic way; by default STRETTO_PEER")
    parser.add_argument(
        "--peer-all", action="store_true", help="run the classic way on all train files too (20 minutes)"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of each measurement, of which the median counts")
    given = parser.parse_args()
    maestro = (given.data or data_folder()) / "maestro"
    if not maestro.is_dir():
        print(f"{maestro}: no music here; give --data or set STRETTO_TEST_DATA")
        return 0
    corpus = maestro / "maestro-v3.0.0"
    small = train_files(corpus, (maestro / "subsets" / "small.txt").read_text().split())
    everything = train_files(corpus)
    print(f"MAESTRO, events, 35 variants of each train file, {os.cpu_count()} cores\n")
    compare(corpus, small, everything, given.peer or _peer(maestro.parent), given.runs, given.peer_all)
    print()
    scale(corpus, small[:1], everything, given.runs)
    print("\nwhere the time of one process goes (with the profiler's own cost in it)")
    profile(corpus, small[:10])
    return 0


def _peer(data: Path) -> Path | None:
    candidates = [os.environ.get("STRETTO_PEER", ""), str(data.parent / "bench" / "peer_score2perf.py")]
    return next((Path(path) for path in candidates if path and os.path.exists(path)), None)


if __name__ == "__main__":
    raise SystemExit(main())
