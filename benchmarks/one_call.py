"""What an accelerator is asked for, unattended and in a call that ends in time: speed with its profile, or four models.

    python benchmarks/one_call.py speed --output OUT [--peer PYTHON] [--seconds 500]
        [--size base] [--window 2048] [--batch 16] [--precision mixed_bfloat16] [--peak FLOP/S]
    python benchmarks/one_call.py music --output OUT --data DATASET [--seconds 500]
        [--size small] [--window 2048] [--batch 16] [--precision mixed_bfloat16] [--train-seconds 80]

speed: `train_step.py` with rotary positions beside PyTorch, profiled, then with relative ones; a batch that the device
has no room for is halved, a peer that fails is left out. --peak, for the MFU, is 989e12 (an H200) in bfloat16; in
float32 there is none unless it is given. music: each of four families is trained for as many steps as fill its seconds
(a short run before tells how many), evaluated on validation and test, and sampled; where time is left, the best one is
trained longer. DATASET holds whole pieces of events in their own keys (`stretto prepare maestro … --window 0`): windows
and keys are drawn anew. JAX; each part has a file of its own in OUT, written as soon as it is known, and what failed
says why: nothing waits for a person. With --size tiny, a short window and few seconds all of it runs on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = ("music-transformer-rotary", "music-transformer", "transformer", "performance-rnn")
SIZED = FAMILIES[:1]
"""Those that come in several sizes; the others have the published one only."""
STEPS_BEFORE = 30
SHARE_OF_REST = 0.6
"""Of the seconds left for a family, those that it may train; the rest is compiling and more."""
RESERVE = 3.0
"""Seconds at the end for killing what is not done, and for writing."""
SECONDS_TO_DIE = 1.0
PEER_ENDED = "the PyTorch decoder ended with"
"""How `train_step.py` says that not it failed but its peer."""
PEAKS = {"mixed_bfloat16": 989e12, "float32": 0.0}


class Clock:
    """How many seconds are left until everything must have ended."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds - RESERVE

    def left(self) -> float:
        """Never below 0."""
        return max(0.0, self._end - time.monotonic())


def run(words: Sequence[str], seconds: float) -> tuple[str, str]:
    """Output of a Python program of this tree, and what went wrong: "" where nothing did.

    It writes to files and not to pipes: a child of its own that outlives it would hold a pipe open.
    """
    name = " ".join(words[:3])
    if seconds <= 0:
        return "", f"{name}: no time was left for it"
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = [sys.executable, *words]
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return "", f"{name}: not done after {seconds:.0f} s: {written(err)[-2000:]}"
        finally:
            end(process)
        return written(out), "" if code == 0 else f"exit code {code}: {written(err)[-8000:]}"


def written(file: Any) -> str:
    """All of a file that another process writes."""
    file.seek(0)
    return str(file.read())


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills a process that is still there, with all of its group; one that does not die is left alone."""
    if process.poll() is not None:
        return  # its number may be another's by now
    os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_TO_DIE)


def keep(asked: argparse.Namespace, name: str, found: dict[str, Any]) -> dict[str, Any]:
    """Writes what is known of a part, and prints it."""
    (Path(asked.output) / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(name, json.dumps(found)[:3000], flush=True)
    return found


# === Speed ===


def speed(asked: argparse.Namespace, clock: Clock) -> None:
    """Both kinds of positions; the first beside the peer and with a profile."""
    profile = ["--profile", str(Path(asked.output) / "profile")]
    beside = ["--peer", asked.peer] if asked.peer else []
    keep(asked, "speed-rotary", fitting_batch(asked, clock, 0.65, ["--positions", "rotary", *beside, *profile]))
    keep(asked, "speed-relative", fitting_batch(asked, clock, 0.95, ["--positions", "relative"]))


def fitting_batch(asked: argparse.Namespace, clock: Clock, share: float, words: list[str]) -> dict[str, Any]:
    """What `train_step.py` measures with the largest batch that fits, in a share of the seconds that are left.

    Where the peer fails it is left out. Where something else than memory fails, it is tried once more with nothing
    beside: no peer, no profile.
    """
    batch, wrong, until = asked.batch, [], time.monotonic() + clock.left() * share
    while batch and (left := until - time.monotonic()) > 0:
        out, error = run([*measuring(asked, batch, left), *words], left)
        if not error:
            return {**json.loads(out), "failed_before": wrong}
        wrong.append({"batch": batch, "words": words, "error": error})
        if PEER_ENDED in error and "--peer" in words:  # first: its lack of memory is not ours
            words = without(words, "--peer")
        elif "RESOURCE_EXHAUSTED" in error or "out of memory" in error.lower():
            batch //= 2
        elif words[2:]:
            words = words[:2]
        else:
            break
    return {"failed": wrong}


def measuring(asked: argparse.Namespace, batch: int, seconds: float) -> list[str]:
    """`train_step.py` with what is the same for both kinds of positions."""
    peak = PEAKS[asked.precision] if asked.peak is None else asked.peak
    same = ["--backend", "jax", "--size", asked.size, "--window", asked.window, "--precision", asked.precision]
    more = ["--batch", batch, "--peak", peak, "--seconds", seconds / 3, "--steps", asked.steps]
    return ["benchmarks/train_step.py", *map(str, [*same, *more])]


def without(words: list[str], option: str) -> list[str]:
    """Words without an option and its value."""
    place = words.index(option)
    return [*words[:place], *words[place + 2 :]]


# === Music ===


def music(asked: argparse.Namespace, clock: Clock) -> None:
    """Trains, evaluates and samples the families, then the best of them once more, for longer."""
    found = {}
    for number, family in enumerate(FAMILIES):
        seconds = min(asked.train_seconds, clock.left() / (len(FAMILIES) - number) * SHARE_OF_REST)
        found[family] = keep(asked, family, trained(asked, family, family, seconds, clock))
        picture(asked, found)
    scored = {family: one["validation"] for family, one in found.items() if one.get("validation")}
    if scored and (seconds := clock.left() * SHARE_OF_REST) > asked.train_seconds:
        best = min(scored, key=lambda family: scored[family])
        keep(asked, "longer", trained(asked, best, f"{best}-longer", seconds, clock))


def trained(asked: argparse.Namespace, family: str, name: str, seconds: float, clock: Clock) -> dict[str, Any]:
    """One family: how it was trained, nats per event, what its samples sound like."""
    folder = Path(asked.output) / name
    words = ["stretto.py", "train", family, "--data", asked.data, "--backend", "jax", "--allow-cpu"]
    words += ["--precision", asked.precision, "--batch", str(asked.batch), "--redraw-crop", str(asked.window)]
    words += ["--redraw-transpose=-3..3", "--log-every", "10"]
    words += ["--size", asked.size] if family in SIZED else []
    before = [*words, "--output", f"{folder}-before", "--steps", str(STEPS_BEFORE), "--evaluate-examples", "1"]
    _, error = run(before, clock.left())
    if error:
        return {"failed": error}
    rate = steps_per_second(Path(f"{folder}-before"), asked)
    steps = max(STEPS_BEFORE, int(rate * seconds))
    began = time.monotonic()
    training = [*words, "--output", str(folder), "--steps", str(steps), "--checkpoint-every", str(max(1, steps // 3))]
    _, error = run([*training, "--evaluate-examples", "64", "--warmup", str(steps // 10)], clock.left())
    result: dict[str, Any] = {"steps": steps, "steps_per_second": rate, "wall_seconds": time.monotonic() - began}
    if error:
        return {**result, "failed": error}
    return {**result, **dict(judged(asked, folder, clock))}


def steps_per_second(folder: Path, asked: argparse.Namespace) -> float:
    """Of a short run: its fastest report, which has no compiling in it."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return float(max(line["examples_per_second"] for line in lines if line["kind"] == "train")) / asked.batch


def judged(asked: argparse.Namespace, folder: Path, clock: Clock) -> Iterator[tuple[str, Any]]:
    """Nats per event of both splits, and figures of two samples."""
    for split in ("validation", "test"):
        out, error = run(["stretto.py", "evaluate", str(folder), "--split", split, "--json"], clock.left())
        yield (f"{split}_failed", error) if error else (split, json.loads(out)["nats_per_token"])
    words = ["stretto.py", "sample", str(folder), "--count", "2", "--length", str(asked.window)]
    _, error = run([*words, "--output", str(folder / "music")], clock.left())
    if error:
        yield "sample_failed", error
        return
    result = json.loads((folder / "music" / "samples.json").read_text())
    yield "samples", [{**row, "heard": heard(Path(row["wav"]))} for row in result["samples"]]
    yield "music", result["music"]


def heard(path: Path) -> dict[str, float]:
    """Of a WAV file its seconds, and the share of tenths of a second that are silent (below -60 dB)."""
    with wave.open(str(path)) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, channels) / 32768
    count = len(sound) // (rate // 10)
    loud = np.sqrt(np.mean(sound[: count * (rate // 10)].reshape(count, rate // 10 * channels) ** 2, axis=1))
    return {"seconds": len(sound) / rate, "silent": float(np.mean(loud < 1e-3)) if count else 1.0}


def picture(asked: argparse.Namespace, found: dict[str, Any]) -> None:
    """Piano roll and self-similarity of one sample of each family so far, in one picture."""
    from PIL import Image

    rows = []
    for family in found:
        names = [Path(asked.output) / family / "music" / f"sample-000{kind}.png" for kind in ("", "-similarity")]
        if all(path.exists() for path in names):
            rows.append([Image.open(path).convert("RGB") for path in names])
    if not rows:
        return
    height = int(statistics.median(pair[0].height for pair in rows))
    pairs = [[one.resize((max(1, one.width * height // one.height), height)) for one in pair] for pair in rows]
    whole = Image.new("RGB", (max(sum(one.width for one in pair) for pair in pairs), height * len(pairs)), "white")
    for row, (left, right) in enumerate(pairs):
        whole.paste(left, (0, row * height))
        whole.paste(right, (left.width, row * height))
    whole.save(Path(asked.output) / "music.png")


def main() -> None:
    """Does one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "music"))
    parser.add_argument("--output", required=True)
    parser.add_argument("--data", default="", help="music: a dataset of whole pieces")
    parser.add_argument("--peer", default="", help="speed: Python that has torch")
    parser.add_argument("--size", default="", help="base for speed, small for music")
    parser.add_argument("--precision", default="mixed_bfloat16", choices=("float32", "mixed_bfloat16"))
    parser.add_argument("--peak", type=float, help="FLOP/s of the machine, for the MFU")
    for name, default in (("seconds", 500.0), ("train-seconds", 80.0)):
        parser.add_argument(f"--{name}", type=float, default=default)
    for name, default in (("window", 2048), ("batch", 16), ("steps", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    asked.output = str(Path(asked.output).resolve())
    asked.size = asked.size or {"speed": "base", "music": "small"}[asked.what]
    Path(asked.output).mkdir(parents=True, exist_ok=True)
    {"speed": speed, "music": music}[asked.what](asked, Clock(asked.seconds))


if __name__ == "__main__":
    main()
