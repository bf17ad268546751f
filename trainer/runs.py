"""RUNS: the named runs we stand behind, each with what it should give and the command that starts it."""

from __future__ import annotations

from dataclasses import replace

from trainer.config import Run, TrainSettings
from trainer.models.coconet import Coconet
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

_CELLS = TrainSettings(
    steps=60_000,
    batch=20,
    optimiser="adam",
    learning_rate=1e-3,
    schedule="cosine",
    warmup=500,
    beta2=0.999,
    epsilon=1e-8,
    checkpoint_every=1000,
)
"""Batches of 20 windows as both papers on cells have them; a cosine where Coconet halved its rate by patience."""

_COCONET = Run(
    name="coconet",
    family="coconet",
    task=Coconet(),
    settings=_CELLS,
    expected=(
        "Huang et al. 2017, 16ths, their own split: 0.57 +- 0.01 nats per frame in random orders (framewise), 2.22 in "
        "order of time. Cells, in table 2 of Huang et al. 2018: 0.238 on validation (orderless). Both see the future, "
        "so neither compares with a causal model. 64 layers of 128, 9.2 million weights: for an accelerator."
    ),
    command="stretto train coconet --data DIR --output RUN (of jsb, voices, --window 64)",
)

_CHORALES_COCONET = Run(
    name="chorales-coconet",
    family="coconet",
    task=Coconet(blocks=4, filters=32, dilation=8, head_kernel=3, gamma=1.0),
    settings=replace(_CELLS, steps=3000, learning_rate=3e-3, warmup=100, checkpoint_every=250, log_every=20),
    expected="80 thousand weights, made for 20 minutes on two cores. See `coconet` for the published figures.",
    command="stretto train chorales-coconet --data DIR --output RUN (of jsb or music21-chorales, voices, --window 64)",
)

_CHORALES_RESIDUAL = Run(
    name="chorales-residual",
    family="coconet",
    task=Coconet(
        blocks=10,
        filters=64,
        kernel=5,
        head_kernel=3,
        joint="normalised",
        gamma=1.0,
        pitch_range=(0, 127),
        masks="erased",
    ),
    settings=replace(_CELLS, steps=1735, schedule="constant", warmup=0, checkpoint_every=347),
    expected=(
        "A convolutional harmoniser, five epochs of 347 steps on 167 chorales of music21: 0.168 nats per erased cell "
        "on train and 1.03 on validation, 16ths; 1.6 on validation, 8ths. The best checkpoint is that of the lowest "
        "validation loss; 2.1 million weights over all 128 pitches: for an accelerator."
    ),
    command="stretto train chorales-residual --data DIR --output RUN (of music21-chorales, voices, --window 64)",
)

_CHORALES_RESIDUAL_SMALL = Run(
    name="chorales-residual-small",
    family="coconet",
    task=replace(_CHORALES_RESIDUAL.task, blocks=4, filters=32, pitch_range=(36, 81), dropout=0.1),
    settings=replace(_CELLS, steps=2000, warmup=100, checkpoint_every=200, log_every=20),
    expected=(
        "As chorales-residual with 4 blocks of 32 over 36..81, 210 thousand weights, for two cores; below 1.0 nats per "
        "erased cell on validation, 16ths, is what it is for."
    ),
    command="stretto train chorales-residual-small --data DIR --output RUN (of music21-chorales, voices, --window 64)",
)

RUNS: dict[str, Run] = {
    run.name: run
    for run in (
        _TINY_CHORALES,
        _MUSIC_TRANSFORMER,
        _ROTARY,
        _TRANSFORMER,
        _COCONET,
        _CHORALES_COCONET,
        _CHORALES_RESIDUAL,
        _CHORALES_RESIDUAL_SMALL,
    )
}
