"""RUNS: the named runs we stand behind, each with what it should give and the command that starts it."""

from __future__ import annotations

from dataclasses import replace

from trainer.config import Run, TrainSettings
from trainer.models.coconet import Coconet
from trainer.models.music_transformer import SIZES, MusicTransformer
from trainer.models.performance_rnn import PerformanceRNN

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
        "order of time (framewise too, which --protocol chronological is not). Cells, in table 2 of Huang et al. 2018: "
        "0.238 on validation (orderless). Both see the future, so neither compares with a causal model. 64 layers of "
        "128, 9.2 million weights: for an accelerator."
    ),
    command="stretto train coconet --data DIR --output RUN (of jsb, voices, --window 64)",
)

_CHORALES_COCONET = Run(
    name="chorales-coconet",
    family="coconet",
    task=Coconet(blocks=4, filters=32, dilation=8, head_kernel=3, gamma=1.0),
    settings=replace(_CELLS, steps=3000, learning_rate=3e-3, warmup=100, checkpoint_every=250, log_every=20),
    expected=(
        "Made for 20 minutes on two cores; 80 thousand weights. On jsb, 320 steps with a cosine of their own gave 0.91 "
        "on validation, 1.25 nats per erased cell. See `coconet` for the published figures."
    ),
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
    task=replace(_CHORALES_RESIDUAL.task, blocks=3, filters=32, pitch_range=(36, 81), dropout=0.1),
    settings=replace(_CELLS, steps=3000, warmup=100, checkpoint_every=250, log_every=20),
    expected=(
        "As chorales-residual with 3 blocks of 32 over 36..81, 160 thousand weights, for two cores; below 1.0 nats per "
        "erased cell on validation, 16ths, is what it is for: 110 steps gave 0.78 on 200 windows."
    ),
    command="stretto train chorales-residual-small --data DIR --output RUN (of music21-chorales, voices, --window 64)",
)

_PERFORMANCE_RNN = Run(
    name="performance-rnn",
    family="performance-rnn",
    task=PerformanceRNN(),
    settings=TrainSettings(
        steps=100_000,
        batch=64,
        learning_rate=1e-3,
        schedule="constant",
        warmup=0,
        beta2=0.999,
        epsilon=1e-8,
        clip=3.0,
        checkpoint_every=2000,
        sample_every=10_000,
    ),
    expected=(
        "Oore et al. 2018: three LSTM layers of 512, on windows of 512 events. Huang et al. 2018, table 3, give 1.969 "
        "nats per event for three layers of 1,024 (--hidden 1024) on their own split, segments of 2,048 events."
    ),
    command=(
        "stretto train performance-rnn --data DIR --output RUN (of maestro, events, --pitch-range 21..108 --window 512)"
    ),
)

_CHORALES = TrainSettings(
    steps=5300,
    batch=6,
    optimiser="adamw",
    learning_rate=2e-3,
    schedule="cosine",
    warmup=100,
    beta2=0.98,
    epsilon=1e-8,
    weight_decay=0.05,
    clip=1.0,
    checkpoint_every=500,
)
"""8.1 million tokens in windows of 256, 20 minutes of one core."""

_SMALL = MusicTransformer(
    **SIZES["tiny"],
    positions="rotary",
    activation="gelu",
    dropout=0.25,
    attention_dropout=0.25,
    voices=4,
    metre=16,
    max_distance=256,
)
_RASTER = "of jsb, raster, --window 256 --hop 4"
_TRANSPOSED = "of jsb, raster, --window 256 --hop 16 --transpose=-6..6"

_CHORALES_ROTARY = Run(
    name="chorales-rotary",
    family="music-transformer",
    task=_SMALL,
    settings=_CHORALES,
    expected=(
        "Nats per token on test, no transposition: 0.462 +- 0.001, three seeds, 14 to 18 minutes of a core. The "
        "best published: DaRoPE 0.4547, PoPE 0.4889, rotary 0.5081. Windows of 256 that overlap by half: stretto "
        "evaluate --split test --protocol sliding. The standard error over the 77 pieces is 0.012."
    ),
    command=f"stretto train chorales-rotary --data DIR --output RUN ({_RASTER})",
)

_CHORALES_TRANSPOSED = Run(
    name="chorales-rotary-transposed",
    family="music-transformer",
    task=replace(_SMALL, dropout=0.1, attention_dropout=0.1),
    settings=replace(_CHORALES, steps=11_000),
    expected=(
        "Nats per token on test, likewise: 0.376, one seed, 21 minutes on two cores; 0.399 +- 0.001, three seeds, with "
        "--steps 5300 and --hop 32. To be told beside chorales-rotary: published figures are without transposition."
    ),
    command=(f"stretto train chorales-rotary-transposed --data DIR --output RUN ({_TRANSPOSED})"),
)

_CHORALES_RELATIVE = Run(
    name="chorales-relative",
    family="music-transformer",
    task=replace(_SMALL, positions="relative"),
    settings=_CHORALES,
    expected=(
        "0.460 nats per token on test, one seed, 22 minutes of a core; none is published for this size. Huang et al. "
        "2018, table 2: 0.357 nats per token on validation with five layers of 512; others who built it again report "
        "0.502 on validation, 0.530 on test."
    ),
    command=f"stretto train chorales-relative --data DIR --output RUN ({_RASTER})",
)

_CHORALES_LSTM = Run(
    name="chorales-lstm",
    family="performance-rnn",
    task=PerformanceRNN(hidden=128, dropout=0.2, voices=4, metre=16),
    settings=replace(_CHORALES, steps=2600, batch=16),
    expected=(
        "A comment in the Music Transformer's source gives 0.447 nats per token on validation for three layers of 128 "
        "units; BachBot's LSTM 0.477 on a split of its own. Without an accelerator 256 units take five times as long."
    ),
    command=f"stretto train chorales-lstm --data DIR --output RUN ({_RASTER})",
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
        _PERFORMANCE_RNN,
        _CHORALES_ROTARY,
        _CHORALES_TRANSPOSED,
        _CHORALES_RELATIVE,
        _CHORALES_LSTM,
    )
}
