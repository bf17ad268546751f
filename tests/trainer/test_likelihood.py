"""Likelihood figures, the bigram to compare with, copied runs, and how pieces are cut for scoring. No Keras."""

from math import log

import numpy as np
import pytest

from schemas.errors import UsageError
from trainer import cells
from trainer.evaluation import PROTOCOLS, Evaluation
from trainer.metrics.copying import longest_copied_runs
from trainer.metrics.likelihood import NOTHING, Likelihood, bigram_counts, bigram_nats
from trainer.metrics.scores import group, of_cells, summary
from trainer.metrics.style import differences
from trainer.metrics.tunes import shared_tunes
from trainer.segments import batch_of, segments


def test_sums_are_added_and_divided_once():
    total = sum([Likelihood(10.0, 4, 1, 2.0), Likelihood(2.0, 2, 2, 1.0)], NOTHING)
    assert total.nats_per_token == 2.0
    assert total.nats_per_note == 4.0
    assert total.bits_per_second == pytest.approx(4.0 / log(2))


def test_music_without_notes_has_no_figure_per_note():
    assert np.isnan(Likelihood(1.0, 1, 0, 0.0).nats_per_note)
    assert np.isnan(Likelihood(1.0, 1, 0, 0.0).bits_per_second)


def test_bigram_counts_begin_each_window_after_nothing():
    counts = bigram_counts([np.array([0, 1, 1]), np.array([1], np.uint16)], size=2)
    assert counts.tolist() == [[0, 1], [0, 1], [1, 1]]


def test_bigram_counts_do_not_depend_on_how_many_windows_are_counted_at_once(monkeypatch):
    windows = [np.random.default_rng(i).integers(0, 7, 5) for i in range(20)]
    whole = bigram_counts(windows, 7)
    monkeypatch.setattr("trainer.metrics.likelihood._WINDOWS_AT_ONCE", 3)
    assert (bigram_counts(windows, 7) == whole).all()
    assert whole.sum() == 100


def test_bigram_nats_add_a_tenth_to_every_count():
    counts = bigram_counts([np.array([0, 1, 1])], size=2)
    expected = [-log(1.1 / 1.2), -log(1.1 / 1.2), -log(1.1 / 1.2)]
    np.testing.assert_allclose(bigram_nats(counts, np.array([0, 1, 1])), expected)
    np.testing.assert_allclose(bigram_nats(counts, np.array([1])), [-log(0.1 / 1.2)])


def longest_by_hand(sample, sequence):
    best = 0
    for i in range(len(sample)):
        for k in range(len(sequence)):
            run = 0
            while i + run < len(sample) and k + run < len(sequence) and sample[i + run] == sequence[k + run]:
                run += 1
            best = max(best, run)
    return best


def test_the_longest_copied_run_equals_a_search_by_hand():
    draw = np.random.default_rng(0)
    for _ in range(30):
        samples = [draw.integers(0, 4, size).astype(np.uint16) for size in (30, 3, 0)]
        corpus = [draw.integers(0, 4, 20).astype(np.uint16) for _ in range(4)]
        expected = [max(longest_by_hand(sample, sequence) for sequence in corpus) for sample in samples]
        assert longest_copied_runs(samples, corpus) == expected


def test_a_copied_piece_is_found_and_runs_do_not_cross_pieces():
    draw = np.random.default_rng(1)
    first, second = (draw.integers(0, 388, 500).astype(np.uint16) for _ in range(2))
    sample = np.concatenate([first[-70:], second[:60]])
    assert longest_copied_runs([sample], [first, second]) == [70]


@pytest.mark.parametrize(
    ("length", "window", "hop"), [(100, 32, 32), (100, 32, 8), (5, 32, 16), (32, 32, 16), (33, 32, 32)]
)
def test_every_token_is_scored_exactly_once(length, window, hop):
    tokens = np.arange(length)
    parts = list(segments("piece", tokens, window, hop))
    assert np.concatenate([part.tokens[part.context :] for part in parts]).tolist() == tokens.tolist()
    assert all(len(part.tokens) <= window for part in parts)
    assert all(part.context == (window - hop if part.start else 0) for part in parts)


def test_a_batch_is_filled_up_with_rows_of_weight_zero():
    parts = list(segments("piece", np.arange(10), 8, 8))
    batch = batch_of(parts, 8, 4)
    assert batch["tokens"].shape == (4, 8)
    assert batch["start_token"].tolist() == [0, 8, 0, 0]
    assert batch["piece_tokens"].tolist() == [8, 10, 0, 0]
    assert batch["example_weight"].tolist() == [1, 1, 0, 0]


def test_the_summary_names_the_figure_by_protocol_and_window():
    rows = [
        {"piece": "a", "start_token": 0, "nats": 4.0, "tokens": 2, "right": 2, "notes": 1, "seconds": 0.0},
        {"piece": "a", "start_token": 2, "nats": 2.0, "tokens": 1, "right": 0, "notes": 0, "seconds": 0.0},
    ]
    rows = [{**row, "bigram_nats": 2 * row["nats"]} for row in rows]
    found = summary(rows, "segment", 2048)
    assert found["nll_seg2048"] == found["nats_per_token"] == 2.0
    assert found["ratio"] == 0.5
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["standard_error"] is None
    assert found["bits_per_second"] is None
    assert found["pieces"][0]["tokens"] == 3
    assert "nll_sliding512" in summary(rows, "sliding", 512)


def test_cells_are_told_apart_by_voice_and_by_whether_they_repeat_their_voices_last():
    tokens = {"a": np.array([60, 50, 60, 51, 60, 50]), "b": np.array([70, 40])}
    nats = {"a": np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), "b": np.array([7.0, 8.0])}
    found = of_cells(tokens, nats, ("high", "low"))
    assert found["nll_cell"] == 4.5
    assert found["voices"] == {"high": 4.0, "low": 5.0}
    assert found["repeated"] == 4.0
    assert found["changed"] == 5.0
    assert of_cells({"b": tokens["b"]}, {"b": nats["b"]}, ("high", "low"))["changed"] is None


def test_a_group_of_pieces_has_a_mean_over_tokens_and_a_standard_error_over_pieces():
    found = group({"a": np.array([1.0, 1.0, 1.0]), "b": np.array([3.0])})
    assert found == {"pieces": 2, "nats_per_token": 1.5, "standard_error": pytest.approx(1.0)}
    assert group({}) == {"pieces": 0, "nats_per_token": None, "standard_error": None}


def test_a_tune_is_known_again_in_another_key_and_under_other_voices():
    draw = np.random.default_rng(0)
    tune, other = draw.integers(60, 76, (2, 24))

    def piece(soprano):
        return np.stack([soprano, draw.integers(40, 60, len(soprano))], axis=1).reshape(-1)

    half = np.concatenate([other[:14], tune[14:]])
    pieces = {"same": piece(tune), "moved": piece(tune + 3), "new": piece(other), "half": piece(half)}
    assert shared_tunes([piece(tune)], pieces, 2) == {"same", "moved"}


def test_windows_beyond_what_positions_reach_are_refused_unless_told():
    assert Evaluation().cut(256, 256) == (256, 256)
    assert Evaluation(protocol="sliding").cut(256, None) == (256, 128)
    assert Evaluation(window=512).cut(256, None) == (512, 512)
    assert Evaluation(window=512, allow_longer=True).cut(256, 256) == (512, 512)
    with pytest.raises(UsageError, match="--allow-longer"):
        Evaluation(window=512).cut(256, 256)
    with pytest.raises(UsageError, match="--hop 300"):
        Evaluation(protocol="sliding", hop=300).cut(256, None)
    with pytest.raises(UsageError, match="--protocol sliding"):
        Evaluation(hop=3)


def test_style_compares_means_and_leaves_silence_out():
    from schemas.music import Notes, Piece

    low = Piece("low", Notes.of([0, 480], [480, 960], [60, 62], [80, 80]))
    high = Piece("high", Notes.of([0, 480], [480, 960], [72, 74], [100, 100]))
    found = differences([low], [high, Piece("silence", Notes.empty())])
    assert found["pitch"] == 12
    assert found["velocity"] == 20
    assert found["notes_per_second"] == found["polyphony"] == 0
    assert differences([low], []) == {}


def test_settings_of_the_other_kind_of_run_are_refused():
    assert Evaluation().for_kind(PROTOCOLS, "run").protocol == "segment"
    assert Evaluation(limit=3, allow_longer=True).for_kind(cells.PROTOCOLS, "run").protocol == "masked"
    with pytest.raises(UsageError, match="--limit belongs to runs on cells"):
        Evaluation(limit=3).for_kind(PROTOCOLS, "run")


@pytest.mark.parametrize(
    ("asked", "apart"),
    [
        ({"protocol": "segment"}, ""),
        ({"protocol": "segment", "window": 256}, ""),
        ({"protocol": "segment", "window": 128}, "-window128"),
        ({"protocol": "sliding", "window": 128}, "-window128"),
        ({"protocol": "sliding", "hop": 128}, ""),
        ({"protocol": "sliding", "window": 128, "hop": 128}, "-window128-hop128"),
        ({"protocol": "orderless", "limit": 3, "orders": 2}, "-orders2-limit3"),
        ({"protocol": "chronological", "orders": 2}, ""),
    ],
)
def test_what_was_scored_in_another_way_has_another_name(asked, apart):
    assert Evaluation(**asked).apart(trained=256) == apart


def test_windows_of_cells_beyond_the_trained_length_are_refused_unless_told():
    with pytest.raises(UsageError, match="--window 65: this run was trained on 64 steps.*--allow-longer"):
        Evaluation(protocol="masked", window=65).cut(64, 64)
    assert Evaluation(protocol="masked", window=65, allow_longer=True).cut(64, 64) == (65, 65)
