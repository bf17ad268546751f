"""Windows a second: Stretto's reader against tf.data on the same shards, on one core, checksums checked by both.

    python benchmarks/reader.py [--data DIR] [--pairs 5] [--seconds 3]

Ours reads in one global random order; tf.data interleaves the shards and shuffles with a buffer of 10,000, which is
what it can do. Both give NumPy batches of every array of the records. The two take turns, so that a busy machine is
unfair to neither; medians count. Without --data a dataset of random tokens is written to a scratch folder first. The
cache is warm: one pass comes before.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from schemas.manifest import Manifest, read_manifest  # noqa: E402
from trainer.data import Reader, fixed_names  # noqa: E402

BATCH = 64
BUFFER = 10_000
WINDOW = 2048


def synthetic(folder: str, records: int = 24_000, shards: int = 8) -> None:
    """Writes a train split of random tokens, with keys of different lengths as real ones have."""
    from schemas.representations.events import Events
    from tests.trainer.synthetic import write_dataset

    draw, representation = np.random.default_rng(0), Events(window=WINDOW)
    rows = [
        {
            "tokens": draw.integers(0, 388, WINDOW, dtype=np.uint16),
            "start_token": np.int64(draw.integers(0, 20) * WINDOW),
            "piece_tokens": np.int64(draw.integers(WINDOW, 40 * WINDOW)),
            "key": f"bench/{'x' * int(draw.integers(20, 80))}.midi#+0@1/{number:05d}".encode(),
            "group": b"g" * int(draw.integers(10, 60)),
        }
        for number in range(records)
    ]
    write_dataset(folder, representation.features(), {"train": rows}, shards, representation)


def ours(folder: str, manifest: Manifest) -> Iterator[Any]:
    """Batches of Stretto's reader."""
    return Reader(folder, manifest, "train").shuffled(seed=0, position=0, batch=BATCH)


def theirs(folder: str, manifest: Manifest) -> Iterator[Any]:
    """Batches of tf.data, as its guide says: interleave, shuffle, batch, parse a batch at once."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    paths = [os.path.join(folder, shard.name) for shard in manifest.shards_of("train")]
    features = {name: manifest.features[name] for name in fixed_names(manifest.features)}
    spec, raw = {}, {}
    for name, feature in features.items():
        if feature.storage == "raw":
            spec[name], raw[name] = tf.io.FixedLenFeature([], tf.string), feature
        else:
            kind = tf.float32 if feature.dtype == "float32" else tf.int64
            spec[name] = tf.io.FixedLenFeature(feature.shape, kind)

    def parse(batch: Any) -> Any:
        found = tf.io.parse_example(batch, spec)
        for name, feature in raw.items():
            found[name] = tf.io.decode_raw(found[name], tf.as_dtype(feature.dtype))
        return found

    rows = tf.data.Dataset.from_tensor_slices(paths).interleave(tf.data.TFRecordDataset, cycle_length=len(paths))
    rows = rows.repeat().shuffle(BUFFER, seed=0).batch(BATCH).map(parse).prefetch(4)
    return iter(rows.as_numpy_iterator())


def rates(batches: Iterator[Any], seconds: float) -> tuple[float, float]:
    """Examples a second by the clock, and by the processor time of all threads, over at least so many seconds."""
    next(batches)
    count, begin, begin_cpu = 0, time.perf_counter(), time.process_time()
    while (spent := time.perf_counter() - begin) < seconds:
        for _ in range(10):
            count += len(next(batches)["tokens"])
    return count / spent, count / (time.process_time() - begin_cpu)


def worker(side: str, folder: str, seconds: float) -> None:
    """One side in a process of its own, on one core: warms the cache, waits for each line, answers with rates."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    manifest = read_manifest(folder)
    batches = {"ours": ours, "theirs": theirs}[side](folder, manifest)
    for _ in range(-(-manifest.records("train") // BATCH)):
        next(batches)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(*rates(batches, seconds), flush=True)


def measure(folder: str, pairs: int, seconds: float) -> dict[str, Any]:
    """Rates of both sides, taken in turns."""
    sides = {}
    for side in ("ours", "theirs"):
        command = [sys.executable, __file__, "--worker", side, "--data", folder, "--seconds", str(seconds)]
        sides[side] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for process in sides.values():
        assert process.stdout and process.stdout.readline() == "ready\n"
    found: dict[str, list[list[float]]] = {side: [] for side in sides}
    for _ in range(pairs):
        for side, process in sides.items():
            assert process.stdin and process.stdout
            process.stdin.write("go\n")
            process.stdin.flush()
            found[side].append([float(text) for text in process.stdout.readline().split()])
    for process in sides.values():
        process.communicate()
    return {name: summary(found, place) for place, name in enumerate(("clock", "processor"))}


def summary(found: dict[str, list[list[float]]], place: int) -> dict[str, Any]:
    """Medians of both sides and how many times ours is faster; by the processor's time a busy machine counts less."""
    values = {side: [round(row[place]) for row in rows] for side, rows in found.items()}
    medians = {side: statistics.median(row) for side, row in values.items()}
    return {**values, "median": medians, "ratio": round(medians["ours"] / medians["theirs"], 2)}


def main() -> None:
    """Reads the flags, makes data where none are given, prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a dataset with a train split; a synthetic one is made without it")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--worker", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.data, options.seconds)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data or os.path.join(scratch, "data")
        if not options.data:
            synthetic(folder)
        found = measure(folder, options.pairs, options.seconds)
    print(json.dumps(found, indent=1))
    for name, one in found.items():
        ours_, theirs_ = one["median"]["ours"], one["median"]["theirs"]
        print(f"by the {name}: ours {ours_:,.0f}, tf.data {theirs_:,.0f} windows a second, {one['ratio']} times")


if __name__ == "__main__":
    main()
