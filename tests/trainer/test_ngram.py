"""The floors of counting: small cases by hand, the published figures on the real file. No Keras."""

import json
from collections import Counter
from math import log
from pathlib import Path

import numpy as np
import pytest

from trainer.metrics.ngram import floors

CHORALES = Path(__file__).parents[3] / "shared" / "data" / "jsb" / "Jsb16thSeparated.json"


def test_a_token_is_counted_with_its_own_voice_only():
    train = [np.array([0, 1, 0, 1])]
    found = floors(train, [np.array([0, 1])], size=2, voices=2)
    assert found["unigram"] == pytest.approx(-log(2.1 / 2.2))
    assert floors(train, [np.array([1, 0])], size=2, voices=2)["unigram"] == pytest.approx(-log(0.1 / 2.2))


def test_the_bigram_sees_the_same_voice_a_step_before_and_nothing_before_a_piece():
    found = floors([np.array([0, 1, 0, 0])], [np.array([0, 1, 0, 1])], size=2, voices=2)
    certain, wrong = -log(1.1 / 1.2), -log(0.1 / 1.2)
    assert found["bigram"] == pytest.approx((3 * certain + wrong) / 4)


def test_the_n_gram_interpolates_from_uniform_by_the_number_of_kinds():
    # One voice, one token learnt: every context before the piece was seen once, with one kind.
    found = floors([np.array([0])], [np.array([0])], size=4, voices=1)
    probability = 1 / 4
    for _ in range(5):
        probability = (1 + probability) / 2
    assert found["ngram"] == pytest.approx(-log(probability))


def test_an_unseen_context_says_what_the_shorter_one_says():
    # The second place has parity 1, which the training piece of one token never had: uniform.
    found = floors([np.array([0])], [np.array([0, 3])], size=4, voices=1)
    first = floors([np.array([0])], [np.array([0])], size=4, voices=1)["ngram"]
    assert found["ngram"] == pytest.approx((first + log(4)) / 2)


def test_what_is_scored_teaches_nothing():
    train, draw = [np.array([0, 1, 2, 3] * 3)], np.random.default_rng(0)
    pieces = [draw.integers(0, 4, 16) for _ in range(3)]
    lengths = [len(piece) for piece in pieces]
    alone = [floors(train, [piece], size=4) for piece in pieces]
    together = floors(train, pieces, size=4)
    for name, value in together.items():
        assert value == pytest.approx(np.average([each[name] for each in alone], weights=lengths))


def by_hand(train, piece, size, voices):
    """Nats of a piece by the n-gram, token after token, from dictionaries."""
    counts = {}
    for known in train:
        for place, token in enumerate(known):
            for context in contexts(known, place, voices):
                counts.setdefault(context, Counter())[token] += 1
    nats = 0.0
    for place, token in enumerate(piece):
        probability = 1 / size
        for context in contexts(piece, place, voices):
            seen = counts.get(context, Counter())
            if seen:
                probability = (seen[token] + len(seen) * probability) / (seen.total() + len(seen))
        nats -= log(probability)
    return nats


def contexts(piece, place, voices):
    before = [piece[place - places] if place >= places else None for places in (4, 1, 2, 3)]
    return [(place % voices, place // voices % 2, *before[:count]) for count in range(5)]


@pytest.mark.parametrize("voices", [1, 4])
def test_the_n_gram_equals_dictionaries_counted_by_hand(voices):
    draw = np.random.default_rng(1)
    train = [draw.integers(0, 3, count) for count in (40, 0, 27)]
    pieces = [draw.integers(0, 4, count) for count in (33, 8)]
    expected = sum(by_hand([each.tolist() for each in train], piece.tolist(), 4, voices) for piece in pieces) / 41
    assert floors(train, pieces, 4, voices)["ngram"] == pytest.approx(expected)


def test_without_training_all_ids_are_equally_likely_and_without_pieces_there_is_no_figure():
    assert list(floors([], [np.array([0, 1])], size=8).values()) == pytest.approx([log(8)] * 3)
    assert all(np.isnan(value) for value in floors([np.array([1])], [], size=8).values())


def test_bos_and_padding_are_refused():
    with pytest.raises(ValueError, match="BOS"):
        floors([np.array([129])], [np.array([1])], size=129)


@pytest.mark.skipif(not CHORALES.exists(), reason=f"the chorales as 16ths are not at {CHORALES}")
@pytest.mark.parametrize(
    ("split", "published"),
    [
        ("valid", {"unigram": 2.611, "bigram": 0.936, "ngram": 0.628}),
        ("test", {"unigram": 2.639, "bigram": 0.985, "ngram": 0.658}),
    ],
)
def test_the_published_floors_of_the_chorales_are_reached_within_a_hundredth(split, published):
    pieces = json.loads(CHORALES.read_text())
    ids = {name: [_ids(piece) for piece in pieces[name]] for name in ("train", split)}
    assert floors(ids["train"], ids[split], size=129) == pytest.approx(published, abs=0.01)


def _ids(piece):
    cells = np.array(piece)
    return np.where(cells < 0, 128, cells).reshape(-1)
