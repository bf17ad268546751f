"""What an error of a step means: another process is gone, the device is full, or something that must be shown."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trainer.watch import changed_shapes

ROOT = Path(__file__).resolve().parents[2]
GONE = [
    "UNAVAILABLE: Gloo all-reduce failed: [external/gloo/pair.cc:547] Connection closed by peer [127.0.0.1]:4711",
    "INTERNAL: Read error [127.0.0.1]:4711: Connection reset by peer",
    "FAILED_PRECONDITION: NCCL operation ncclAllReduce failed: ncclRemoteError: remote process exited",
    "ABORTED: the coordination service is shutting down",
    "INTERNAL: process 1 missed its heartbeat",
]
SHOWN = [
    "INTERNAL: NCCL operation ncclCommInitRankConfig failed: invalid usage (run with NCCL_DEBUG=WARN for details)",
    "INVALID_ARGUMENT: gloo: no such interface eth7",
    "INTERNAL: cuDNN failed to find an algorithm",
]
FULL = ["RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9663676416 bytes."]
ASK = """
import json, sys, jax
from trainer.backends import jax_step
found = []
for text in json.loads(sys.argv[1]):
    error = jax.errors.JaxRuntimeError(text)
    found.append([jax_step.is_lost_peer(error), jax_step.is_out_of_memory(error)])
assert not jax_step.is_lost_peer(ValueError("closed by peer"))
print(json.dumps(found))
"""


def test_only_what_says_that_a_process_is_gone_has_the_others_started_again():
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", ASK, json.dumps([*GONE, *SHOWN, *FULL])]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    gone, full = zip(*json.loads(done.stdout), strict=True)
    assert list(gone) == [True] * len(GONE) + [False] * (len(SHOWN) + len(FULL))
    assert list(full) == [False] * (len(GONE) + len(SHOWN)) + [True] * len(FULL)


def shapes(**batch):
    return {name: (str(value.dtype), value.shape) for name, value in batch.items()}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"tokens": np.zeros((4, 64))}, {"tokens": np.zeros((4, 64))}, ""),
        ({"tokens": np.zeros((4, 64))}, {"tokens": np.zeros((4, 32))}, "tokens is float64[4, 32], was float64[4, 64]"),
        ({"a": np.zeros(4, np.int32)}, {"a": np.zeros(4, np.int64)}, "a is int64[4], was int32[4]"),
        ({"a": np.zeros(4, np.int32)}, {}, "a is missing, was int32[4]"),
    ],
)
def test_why_a_step_was_compiled_again_is_told_by_what_the_batch_has_otherwise(old, new, told):
    assert changed_shapes(shapes(**old), shapes(**new)) == told
