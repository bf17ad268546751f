"""Seconds for the last 64 of 2,048 tokens: sampling with a cache of keys and values against a full pass for each token.

    python benchmarks/decoding.py [--backend jax|tensorflow] [--tokens 64]

The model is `music-transformer` (6 layers, relative attention) with random weights, one sample, both ways compiled and
both warm. Cached is the median of five runs; uncached runs once. Both must draw the same tokens.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402

from trainer.backends import current, set_backend  # noqa: E402
from trainer.layers.sampling import Sampler, draw  # noqa: E402

WINDOW = 2048


def build() -> Any:
    """The model of the named run, weights drawn."""
    from schemas.representations.events import Events
    from trainer.layers.initial import draw_initial
    from trainer.models.music_transformer import MusicTransformer

    model = MusicTransformer().build(Events(window=WINDOW).features())
    draw_initial(model, 0)
    return model


def cached(model: Any, given: np.ndarray, noise: np.ndarray) -> Callable[[], np.ndarray]:
    """A function that draws all tokens after the given ones, and gives them back."""
    from keras import ops

    from trainer.layers.decoding import Decoding

    decoding = Decoding(model, current().compile_function, Sampler(), WINDOW)
    state = decoding.state(given[None], 1)
    tokens = np.zeros((1, WINDOW), np.int32)
    tokens[0, : len(given)] = given

    def run() -> np.ndarray:
        found, _ = decoding.fill(tokens, state, noise, len(given), WINDOW)
        return np.asarray(ops.convert_to_numpy(found))[0, len(given) :]

    return run


def uncached(model: Any, given: np.ndarray, noise: np.ndarray) -> Callable[[], np.ndarray]:
    """The same with a full, compiled pass over the window for each token."""
    from keras import ops

    from trainer.layers.decoding import before

    def next_token(tokens: Any, noise: Any, place: Any) -> Any:
        logits = ops.slice(model(before(model, tokens)), (0, place, 0), (1, 1, model.vocabulary))[:, 0]
        return ops.slice_update(tokens, (0, place), draw(logits, noise, Sampler())[:, None])

    step = current().compile_function(model, next_token)
    start = np.zeros((1, WINDOW), np.int32)
    start[0, : len(given)] = given

    def run() -> np.ndarray:
        tokens = start
        for place in range(len(given), WINDOW):
            tokens = step(tokens, noise[:, place], np.asarray(place, np.int32))
        return np.asarray(ops.convert_to_numpy(tokens))[0, len(given) :]

    step(start, noise[:, 0], np.asarray(WINDOW - 1, np.int32))  # compiles
    return run


def seconds_of(run: Callable[[], Any]) -> tuple[float, Any]:
    """How long one call takes, and what it gives."""
    start = time.perf_counter()
    found = run()
    return time.perf_counter() - start, found


def main() -> None:
    """Measures, prints, and fails where the two ways do not draw the same music."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--tokens", type=int, default=64, help="how many of the last tokens are made")
    arguments = parser.parse_args()
    backend = set_backend(arguments.backend)
    model, draws = build(), np.random.default_rng(0)
    given = draws.integers(0, model.vocabulary, WINDOW - arguments.tokens).astype(np.int32)
    noise = draws.random((1, WINDOW), dtype=np.float32)
    fast = cached(model, given, noise)
    fast()
    runs = [seconds_of(fast) for _ in range(5)]
    quick, slow = statistics.median(taken for taken, _ in runs), seconds_of(uncached(model, given, noise))
    if not (runs[0][1] == slow[1]).all():
        sys.exit("cached and uncached sampling drew different tokens")
    result = {
        "backend": backend, "tokens": arguments.tokens, "window": WINDOW, "cached_seconds": round(quick, 4),
        "uncached_seconds": round(slow[0], 3), "ratio": round(slow[0] / quick, 1),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
