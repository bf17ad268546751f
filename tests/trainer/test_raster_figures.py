"""The figures that only a raster of voices has, from shards to their names. No Keras."""

import numpy as np
import pytest

from schemas.manifest import read_manifest
from schemas.naming import copy_key, window_key
from schemas.representations.raster import Raster
from tests.trainer.synthetic import write_dataset
from trainer.evaluate import Evaluation, _figures, _of_voices, _readers, _rows, _train_windows, _wholes
from trainer.metrics.likelihood import bigram_counts
from trainer.metrics.scores import summary
from trainer.segments import Scored, segments

RASTER = Raster(window=32)
STEPS = 40


def records(split, names):
    for name, (tune, semitones) in names.items():
        soprano = np.repeat(np.random.default_rng(tune).integers(62, 76, STEPS // 4), 4)
        voices = [soprano, np.full(STEPS, 58), np.full(STEPS, 52), np.full(STEPS, 45)]
        tokens = np.stack(voices, axis=1).reshape(-1).astype(np.uint16)
        for number, start in enumerate(range(0, 4 * STEPS, RASTER.window)):
            copy = copy_key(f"synthetic/{split}/{name}.mid", semitones, 1.0)
            yield {
                "tokens": tokens[start : start + RASTER.window] + np.uint16(semitones),
                "start_token": np.int64(start),
                "piece_tokens": np.int64(4 * STEPS),
                "key": window_key(copy, number).encode(),
                "group": name.encode(),
            }


@pytest.fixture
def figures(tmp_path):
    """Of two pieces, one on a tune of train; a cell costs 1 nat in the soprano, 2 in the alto, 3, 4."""
    splits = {
        "train": [*records("train", {"a": (1, 0), "b": (2, 0)}), *records("train", {"a": (1, 3)})],
        "validation": list(records("validation", {"known": (1, 0), "new": (3, 0)})),
    }
    folder = str(tmp_path)
    write_dataset(folder, RASTER.features(), splits, shards=1, representation=RASTER)
    readers = _readers(folder, read_manifest(folder), Evaluation(data=folder))
    wholes, _, _ = _wholes(readers[0], "validation")
    parts = [part for whole in wholes for part in segments(whole.copy, whole.tokens, 32, 16)]
    scored = [
        Scored((np.arange(len(part.tokens)) + part.start) % 4 + 1.0, np.ones(len(part.tokens), bool)) for part in parts
    ]
    counts = bigram_counts(_train_windows(readers[1], 32), RASTER.size)
    return {
        **summary(_rows(parts, scored, wholes, counts, RASTER), "sliding", 32),
        **_of_voices(parts, scored, wholes, readers[1], RASTER),
    }


def test_a_cell_is_counted_to_the_voice_of_its_place_in_the_piece(figures):
    assert figures["nll_cell"] == figures["nats_per_token"] == 2.5
    assert figures["voices"] == {"soprano": 1.0, "alto": 2.0, "tenor": 3.0, "bass": 4.0}
    assert figures["changed"] == 1.0 and figures["repeated"] > 2.5


def test_pieces_on_a_tune_of_train_and_others_are_two_groups(figures):
    assert [figures[name]["pieces"] for name in ("tune_in_train", "tune_not_in_train")] == [1, 1]


def test_floors_are_counted_on_the_originals_of_train(figures):
    assert 0 < figures["floors"]["ngram"] < figures["floors"]["bigram"] < figures["floors"]["unigram"]
    # Each lower voice holds one pitch in all 80 steps of the two originals; a copy in another key would bring a second.
    assert figures["floors"]["unigram"] < 0.25 * np.log(129) + 0.75 * -np.log(80.1 / 92.9) + 0.01


def test_a_person_sees_floors_and_groups_beside_the_run(figures):
    words = [what for what, _ in _figures(figures)]
    for part in ("soprano", "bass", "four-token n-gram", "whose tune is in train", "standard error over 2 pieces"):
        assert any(part in line for line in words), part


def test_a_note_that_sounds_over_the_border_of_a_window_is_counted_once(figures):
    sopranos = [np.random.default_rng(tune).integers(62, 76, STEPS // 4) for tune in (1, 3)]
    struck = [1 + int((notes[1:] != notes[:-1]).sum()) for notes in sopranos]
    assert figures["notes"] == sum(struck) + 2 * 3  # each lower voice holds one note
