"""RUNS: the named runs we stand behind, each with what it should give and the command that starts it."""

from __future__ import annotations

from trainer.config import Run, TrainSettings
from trainer.models.music_transformer import SIZES, MusicTransformer

_PAPER = TrainSettings(
    steps=200_000,
    batch=8,
    optimiser="adam",
    learning_rate=(256 * 4000) ** -0.5,  # width^-0.5 x warm-up^-0.5, the top of the paper's schedule
    schedule="rsqrt",
    warmup=4000,
    beta1=0.9,
    beta2=0.98,
    epsilon=1e-9,
    checkpoint_every=2000,
    sample_every=10_000,
)
"""Optimisation of Huang et al. 2018: first-generation defaults of the library they used."""

_TINY_CHORALES = Run(
    name="tiny-chorales",
    family="music-transformer",
    task=MusicTransformer(
        layers=3, hidden=128, attention=128, feed_forward=512, heads=4, positions="rotary", activation="gelu"
    ),
    settings=TrainSettings(
        steps=500,
        batch=8,
        optimiser="adamw",
        learning_rate=2e-3,
        schedule="cosine",
        warmup=50,
        weight_decay=0.05,
        clip=1.0,
        epsilon=1e-8,
        checkpoint_every=250,
        sample_every=500,
        log_every=20,
    ),
    expected=(
        "About 1.09 nats per token on validation, 0.4 of what a bigram counted on train gives (2.77), after one to two "
        "minutes on two cores. 0.7 million weights; rotary, because that is fastest on a CPU."
    ),
    command="stretto train tiny-chorales --data DIR --output RUN (of music21-chorales, events, --window 256)",
)

_MUSIC_TRANSFORMER = Run(
    name="music-transformer",
    family="music-transformer",
    task=MusicTransformer(),
    settings=_PAPER,
    expected=(
        "Huang et al. 2018, table 3: 1.835 nats per event on validation, segments of 2,048 events, on about 1,100 "
        "piano performances of their own split; 1.84 on MAESTRO (Hawthorne et al. 2019). Both with the 308 events of "
        "21..108."
    ),
    command="stretto train music-transformer --data DIR --output RUN (of maestro, events, --pitch-range 21..108)",
)

_ROTARY = Run(
    name="music-transformer-rotary",
    family="music-transformer",
    task=MusicTransformer(positions="rotary", activation="gelu", **SIZES["small"]),
    settings=TrainSettings(
        steps=100_000,
        batch=16,
        optimiser="adamw",
        learning_rate=6e-4,
        schedule="cosine",
        warmup=1000,
        weight_decay=0.05,
        clip=1.0,
        epsilon=1e-8,
        checkpoint_every=2000,
        sample_every=10_000,
    ),
    sizes=SIZES,
    expected="Our own reference; no published figure for these tokens. Sizes: 0.6, 10.6, 85 and 352 million weights.",
    command="stretto train music-transformer-rotary --size small --data DIR --output RUN",
)

_TRANSFORMER = Run(
    name="transformer",
    family="music-transformer",
    task=MusicTransformer(positions="sinusoidal", attention=512),
    settings=_PAPER,
    expected="Huang et al. 2018, table 3, baseline: 1.861 nats per event, otherwise as music-transformer.",
    command="stretto train transformer --data DIR --output RUN (of maestro, events, --pitch-range 21..108)",
)

RUNS: dict[str, Run] = {run.name: run for run in (_TINY_CHORALES, _MUSIC_TRANSFORMER, _ROTARY, _TRANSFORMER)}
