"""What a long training costs beside its steps: memory over 2,000 of them, checkpoints left of 100, and time to save.

    python benchmarks/train_long.py [--backend tensorflow] [--size small] [--window 128] [--batch 2] [--pairs 3]

Memory: `stretto train` of the tiny size, a checkpoint every 20 steps, its resident memory read once a second. Saving:
200 steps with a checkpoint every 50, begun as training begins it and finished before the clock stops, against 200
without, in turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from train_step import Ours, dataset, ratios  # noqa: E402

from trainer.backends import current, set_backend  # noqa: E402

STEPS, EVERY, FOR_GOOD, KEEP = 2000, 20, 500, 3
WITH_SAVING, SAVE_EVERY = 200, 50


def memory(backend: str, folder: str) -> dict[str, Any]:
    """MiB of a training process by step, and the checkpoints it leaves."""
    dataset(f"{folder}/data", 64)
    run = Path(folder) / "run"
    words = f"train music-transformer-rotary --data {folder}/data --output {run} --size tiny --backend {backend}"
    words += f" --batch 4 --steps {STEPS} --checkpoint-every {EVERY} --log-every {EVERY}"
    words += f" --keep {KEEP} --keep-every {FOR_GOOD}"
    command = [str(Path(sys.executable).with_name("stretto")), *words.split()]
    found: dict[int, float] = {}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(1.0)
            if step := newest_step(run):
                found[step] = resident_mib(process.pid) or found.get(step, 0.0)
    if process.returncode:
        raise RuntimeError(f"stretto train ended with {process.returncode}")
    left = sorted(int(path.name) for path in (run / "checkpoints").iterdir())
    return {"mib_by_step": thinned(found), "checkpoints_left": left}


def newest_step(run: Path) -> int:
    """Of the last line in metrics.jsonl, 0 where there is none."""
    try:
        return int(json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"])
    except (FileNotFoundError, IndexError, json.JSONDecodeError):
        return 0


def resident_mib(process: int) -> float:
    """Memory of a process that lies in RAM now, 0 where it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def thinned(found: dict[int, float]) -> dict[int, float]:
    """Of each tenth of the steps the last that was seen."""
    return {step: round(found[step]) for step in {number * 10 // STEPS: number for number in sorted(found)}.values()}


def saving(asked: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Seconds of 200 steps with and without checkpoints, in turns, and how much of it was spent waiting for them."""
    from trainer.checkpoint import Checkpoints
    from trainer.course import save
    from trainer.saving import Saving

    ours = Ours(asked, folder)
    ours.own(5)
    plain, kept, stalls = [], [], []
    checkpoints = Checkpoints(ours.course.folder, 3, 0, ours.course.manifest.fingerprint)
    for _ in range(asked.pairs):
        plain.append(sum(ours.own(SAVE_EVERY) for _ in range(WITH_SAVING // SAVE_EVERY)))
        began, stalled = time.perf_counter(), 0.0
        with Saving(checkpoints) as writing:
            for _ in range(WITH_SAVING // SAVE_EVERY):
                ours.own(SAVE_EVERY)
                at = time.perf_counter()
                save(ours.course, writing, ours.place, None)
                stalled += time.perf_counter() - at
            at = time.perf_counter()
        kept.append(time.perf_counter() - began)
        stalls.append({"stalled": stalled, "last_write": time.perf_counter() - at})
    ours.batches.__exit__()
    return {"without": plain, "with": kept, "without_to_with": ratios(kept, plain), "seconds": stalls}


def main() -> None:
    """Measures, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="tensorflow", choices=("jax", "tensorflow"))
    parser.add_argument("--size", default="small")
    for name, default in (("window", 128), ("batch", 2), ("pairs", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    asked.positions, asked.precision, asked.steps = "rotary", "float32", SAVE_EVERY
    found: dict[str, Any] = {"asked": vars(asked)}
    with tempfile.TemporaryDirectory() as folder:
        found["memory"] = memory(asked.backend, folder)
    set_backend(asked.backend)
    current().prepare(False)
    with tempfile.TemporaryDirectory() as folder:
        found["saving"] = saving(asked, folder)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
