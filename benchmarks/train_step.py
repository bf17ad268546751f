"""Training speed: tokens a second, model FLOP/s and MFU of whole steps, beside the bare compiled step and PyTorch.

    python benchmarks/train_step.py [--backend jax] [--size small] [--window 512] [--batch 4] [--pairs 7] [--steps 6]
                                    [--positions rotary] [--precision float32] [--peer PYTHON] [--seconds 480]
                                    [--profile FOLDER]

Own: batches from shards through the reader, what `stretto train` does around a step, its report at the end. Bare: the
same compiled step on one batch that is ready in the memory of the host, nothing around it. Peer: a plain PyTorch
decoder of the same size and precision with scaled_dot_product_attention and fused AdamW (`peer_torch.py`), run by the
Python that --peer names. They are measured in turns, so that a machine that slows down slows all; the peer has the same
device at the same time, so that neither reserves more of its memory than it needs. Model FLOP of a token, forward and
backward: 6 N + 12 L W T / 2, with N weights in products (no embedding), L layers of width W, and a causal window T of
which half is attended to (PaLM, arXiv:2204.02311, appendix B, counts all of it). Of relative attention the product of
queries and distances is not counted: it is given the FLOP of the same model with rotary positions. MFU divides by
--peak FLOP/s, and none is told of a CPU; 989e12 is an H200's for dense bfloat16. Ends in time: with --seconds no
further pair begins after them. --profile writes one of as many steps, after all that is measured; on JAX its largest
costs are named.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from one_call import PEER_ENDED  # noqa: E402
from profile_costs import largest  # noqa: E402

from schemas.representations.events import Events  # noqa: E402
from tests.trainer.synthetic import write_dataset  # noqa: E402
from trainer.backends import current, set_backend  # noqa: E402
from trainer.config import TrainSettings  # noqa: E402
from trainer.models.music_transformer import SIZES, MusicTransformer  # noqa: E402
from trainer.runs import RUNS  # noqa: E402

RECORDS = 256


def flop_per_token(size: str, window: int, vocabulary: int) -> float:
    """Of the model, forward and backward; see above."""
    sizes = SIZES[size]
    layers, width = sizes["layers"], sizes["hidden"]
    weights = layers * (4 * width * sizes["attention"] + 2 * width * sizes["feed_forward"]) + width * vocabulary
    return 6.0 * weights + 12.0 * layers * sizes["attention"] * window / 2


def dataset(folder: str, window: int) -> Any:
    """Windows of random events, written as `prepare` writes them."""
    representation, draw = Events(window=window), np.random.default_rng(0)
    features, rows = representation.features(), []
    for number in range(RECORDS):
        tokens = draw.integers(0, representation.bos, window).astype(np.uint16)
        key = f"random/{number}".encode()
        rows.append({"tokens": tokens, "start_token": np.int64(0), "piece_tokens": np.int64(window), "key": key})
    records = [{**row, "group": row["key"]} for row in rows]
    return write_dataset(folder, features, {"train": records}, representation=representation)


class Ours:
    """A run on random events, its step compiled: steps with all that training does around them, and bare ones."""

    def __init__(self, asked: argparse.Namespace, folder: str) -> None:
        import keras

        from trainer.backends.update import Update
        from trainer.course import Course, Place, stream
        from trainer.data import Reader
        from trainer.layers.initial import draw_initial
        from trainer.summaries import Summaries
        from trainer.together import Together
        from trainer.watch import Watch

        data, out = f"{folder}/data", f"{folder}/run"
        manifest = dataset(data, asked.window)
        self.vocabulary = int(manifest.features["tokens"].maximum or 0) - 1
        task = MusicTransformer(**SIZES[asked.size], positions=asked.positions, activation="gelu", dropout=0.0)
        settings = TrainSettings(
            batch=asked.batch, optimiser="adamw", clip=1.0, precision=asked.precision, log_every=asked.steps
        )
        keras.config.set_dtype_policy(settings.precision)
        self.update = Update(task.build(manifest.features), task.objectives(), settings)
        draw_initial(self.update.model, 0)
        self.update.place()
        run = replace(RUNS["music-transformer-rotary"], task=task, settings=settings)
        config = {"model": {}, "train": {}}
        reader = Reader(data, manifest, "train")
        self.course = Course(run, config, {}, out, manifest, None, reader, None, self.update)
        self.place, self.stop = Place(), Together(_Never(), self.course.processes)
        self.batches = stream(self.course, self.place)
        self.watch = Watch(self.course, self.place, Summaries(out, 0))
        self.fixed = dict(next(self.batches))

    def own(self, steps: int) -> float:
        """Seconds of some steps of training."""
        from trainer.loop import one_step

        began = time.perf_counter()
        for _ in range(steps):
            one_step(self.course, self.watch, self.batches, 1e-4, self.stop)
        self.watch.report()
        return time.perf_counter() - began

    def bare(self, steps: int) -> float:
        """Seconds of the compiled step alone."""
        began, logs = time.perf_counter(), {}
        for number in range(steps):
            logs = self.update(self.fixed, 1e-4, number, (True,))
        float(logs["loss"])
        return time.perf_counter() - began

    def input_wait(self) -> float:
        """The share of time that steps waited for input: median of the reports but the first."""
        lines = [json.loads(line) for line in Path(self.watch.journal.path).read_text().splitlines()]
        waits = [line["input_wait"] for line in lines if line["kind"] == "train"]
        return statistics.median(waits[1:] or waits)


class _Never:
    requested = by_hand = False


class Peer:
    """The PyTorch decoder in a process of its own, that makes steps when it is told to.

    Raises:
        RuntimeError: beginning with PEER_ENDED, where it has ended.
    """

    def __init__(self, python: str, asked: argparse.Namespace, vocabulary: int) -> None:
        words = [python, str(Path(__file__).with_name("peer_torch.py")), json.dumps(SIZES[asked.size])]
        words += [str(vocabulary), str(asked.window), str(asked.batch), asked.precision]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = json.loads(self._line())

    def steps(self, count: int) -> float:
        """Seconds of some steps, as it measured them. Raises RuntimeError where it has ended."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: reading tells how
            self._process.stdin.write(f"{count}\n")
            self._process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{PEER_ENDED} {self._process.wait()}")
        return line

    def close(self) -> None:
        """Ends it; one that does not end by itself is killed."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()


def in_turns(ways: dict[str, Callable[[int], float]], asked: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of a step of each way, pair after pair; the first way changes from pair to pair."""
    until, found = time.monotonic() + asked.seconds, {name: list[float]() for name in ways}
    for pair in range(asked.pairs):
        names = list(ways)
        for name in names[pair % len(names) :] + names[: pair % len(names)]:
            found[name].append(ways[name](asked.steps) / asked.steps)
        if time.monotonic() > until:
            break
    return found


def ratios(one: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """Speed of one beside another, pair by pair: above 1 it is faster."""
    found = [b / a for a, b in zip(one, other, strict=True)]
    return {"median": statistics.median(found), "lowest": min(found), "highest": max(found)}


def profiled(ours: Ours, folder: str, steps: int) -> dict[str, Any]:
    """Writes a profile of some steps; the operations that cost most, where the backend tells operations by name."""
    current().start_profile(folder)
    ours.own(steps)
    current().stop_profile()
    try:
        return {"folder": folder, **largest(folder)}
    except FileNotFoundError:
        return {"folder": folder}


def memory() -> dict[str, float]:
    """Peak memory of this process and, where the backend tells it, of its device, in GB."""
    import resource

    found = {"host_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}
    if peak := current().peak_memory():
        found["device_gb"] = peak / 1e9
    return found


def device(kind: str) -> dict[str, str]:
    """What was measured: "cpu", "gpu" or "tpu", and its name as the backend says it."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return {"kind": kind, "name": str(jax.devices()[0].device_kind)}
    import tensorflow as tf

    first = tf.config.list_physical_devices(kind.upper())[0]
    return {"kind": kind, "name": str(tf.config.experimental.get_device_details(first).get("device_name", first.name))}


def rates(seconds: Sequence[float], tokens: int, flop: float, peak: float) -> dict[str, Any]:
    """Of steps of so many tokens; the MFU only where there is a peak."""
    rate = tokens / statistics.median(seconds)
    found = {"tokens_per_second": rate, "flop_per_second": rate * flop, "seconds": seconds}
    return found | ({"mfu": rate * flop / peak} if peak else {})


def arguments() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="jax", choices=("jax", "tensorflow"))
    parser.add_argument("--size", default="small", choices=tuple(SIZES))
    parser.add_argument("--positions", default="rotary", choices=("rotary", "relative"))
    parser.add_argument("--precision", default="float32", choices=("float32", "mixed_bfloat16"))
    parser.add_argument("--peer", default="", help="Python that has torch; without it no peer is measured")
    parser.add_argument("--profile", default="", help="folder for a profile")
    parser.add_argument("--peak", type=float, default=0.0, help="FLOP/s of the machine, for the MFU")
    for name, default in (("window", 512), ("batch", 4), ("pairs", 7), ("steps", 6)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=480.0)
    return parser.parse_args()


def share_device() -> None:
    """Makes JAX and TensorFlow take memory of a GPU as they need it: by themselves they leave the peer little."""
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"


def measured(asked: argparse.Namespace, ours: Ours, peer: Peer | None) -> dict[str, Any]:
    """All that is told of the steps."""
    ways: dict[str, Callable[[int], float]] = {"own": ours.own, "bare": ours.bare}
    if peer:
        ways["peer"] = peer.steps
    for way in ways.values():  # compiles, and fills caches
        way(2)
    compiled, what = ours.update.compilations, device(ours.update.devices.kind)
    found = in_turns(ways, asked)
    flop = flop_per_token(asked.size, asked.window, ours.vocabulary)
    result: dict[str, Any] = {"asked": vars(asked), "device": what, "flop_per_token": flop, "pairs": len(found["own"])}
    kinds = {"own": what["kind"], "bare": what["kind"], "peer": peer.about["device"] if peer else ""}
    for name, seconds in found.items():
        peak = 0.0 if kinds[name] == "cpu" else asked.peak
        result[name] = rates(seconds, asked.batch * asked.window, flop, peak)
    result["own_to_bare"] = ratios(found["own"], found["bare"])
    if peer:
        result |= {"own_to_peer": ratios(found["own"], found["peer"]), "peer_about": peer.about}
    result |= {"input_wait": ours.input_wait(), "compiled_again": ours.update.compilations - compiled, **memory()}
    return result


def main() -> None:
    """Measures, prints JSON."""
    asked = arguments()
    if asked.peer:
        share_device()
    set_backend(asked.backend)
    current().prepare(False)
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(asked, folder)
        with ExitStack() as ending:
            peer = ending.enter_context(closing(Peer(asked.peer, asked, ours.vocabulary))) if asked.peer else None
            result = measured(asked, ours, peer)
        if asked.profile:
            result["profile"] = profiled(ours, asked.profile, asked.steps)
        ours.batches.__exit__()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
