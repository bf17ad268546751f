"""Training examples drawn anew: what the reader gives for each number in the stream. No Keras."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from schemas.errors import UsageError
from schemas.feature import Feature
from schemas.hashing import generator
from schemas.manifest import Manifest, read_manifest
from schemas.representations.events import Events
from schemas.representations.raster import Raster
from schemas.settings import to_json
from schemas.window import TOKENS
from tests.trainer.synthetic import whole_scales
from tests.trainer.test_corrupt_records import damage, shard_of
from trainer import redraw
from trainer.config import TrainSettings
from trainer.data import Reader
from trainer.evaluate import _train_windows
from trainer.order import order
from trainer.pieces import piece_features, pieces
from trainer.redraw import DRAWS, OUTSIDE, Redraw, Redraws, Windows, features_seen, readers

CROP = 16
DRAWN = TrainSettings(redraw_crop=CROP, redraw_transpose=(-2, -1, 0, 1, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("pieces"))
    whole_scales(path)
    return path


def streamed(folder, position=0, batch=6, count=60, rows=slice(None), settings=DRAWN, seed=3):
    """The next `count` examples of the stream, {name: [example, ...]}."""
    train, _ = readers(settings, read_manifest(folder), folder)
    batches = train.shuffled(seed, position, batch, rows)
    found = [next(batches) for _ in range(count // batch)]
    return {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}


def test_an_example_is_what_its_number_draws_from_the_record_whose_turn_it_is(folder):
    manifest, found = read_manifest(folder), streamed(folder, position=7)
    source = Reader(folder, manifest, "train")
    for place, number in enumerate(order(3, 7, 60, len(source)).tolist()):
        draw, record = generator(3, 7 + place, "redraw"), source.record(number)
        wanted = Events(window=0).redraw(record, draw, CROP, DRAWN.redraw_transpose)
        for name in TOKENS.names:
            assert np.array_equal(found[name][place], wanted[name])


def test_a_record_is_drawn_otherwise_in_the_next_epoch(folder):
    train, _ = readers(DRAWN, read_manifest(folder), folder)
    found, size = streamed(folder, count=60, batch=20), len(train)
    numbers = order(3, 0, 60, size)
    first, second = (np.flatnonzero(numbers == numbers[0])[:2]).tolist()
    assert found["tokens"][first].tolist() != found["tokens"][second].tolist()


@pytest.mark.parametrize("batch", [1, 4, 12])
def test_neither_the_size_of_a_batch_nor_where_reading_begins_changes_an_example(folder, batch):
    whole, later = streamed(folder), streamed(folder, position=24, batch=batch, count=36)
    for name, values in whole.items():
        assert np.array_equal(values[24:], later[name])
        assert values.dtype == later[name].dtype


def test_processes_that_share_a_batch_draw_what_one_alone_draws(folder):
    whole = streamed(folder, batch=6)
    parts = [streamed(folder, batch=6, count=60, rows=slice(first, first + 3)) for first in (0, 3)]
    for name, values in whole.items():
        together = np.concatenate([part[name].reshape(10, 3, -1) for part in parts], axis=1)
        assert np.array_equal(values.reshape(10, 6, -1), together)


def test_one_example_can_be_had_as_the_model_is_shown_it(folder):
    train, _ = readers(DRAWN, read_manifest(folder), folder)
    whole = streamed(folder)
    for number in (0, 41):
        assert np.array_equal(train.example(3, number)["tokens"], whole["tokens"][number])


def test_for_one_example_one_record_is_read(folder, monkeypatch):
    train, _ = readers(DRAWN, read_manifest(folder), folder)
    asked, payloads = [], train.shards.payloads
    monkeypatch.setattr(
        type(train.shards), "payloads", lambda _, records: asked.append(len(records)) or payloads(records)
    )
    train.example(3, 41)
    assert asked == [1]


def test_validation_is_read_in_windows_and_every_token_counts_once(folder):
    _, validation = readers(DRAWN, read_manifest(folder), folder)
    plain = Reader(folder, read_manifest(folder), "validation", ("key", *TOKENS.names))
    wanted = np.concatenate([piece.tokens for piece in pieces(plain)])
    batches = list(validation.in_order(4))
    shapes = {batch["tokens"].shape for batch in batches}
    rows = [
        {name: batch[name][row] for name in TOKENS.names}
        for batch in batches
        for row in range(4)
        if batch["example_weight"][row]
    ]
    counted = np.concatenate([row["tokens"][: TOKENS.real_length(row)] for row in rows])
    assert shapes == {(4, CROP)}
    assert len(rows) == len(validation)
    assert sorted(counted.tolist()) == sorted(wanted.tolist()) and len(counted) == len(wanted)
    assert all(row["start_token"] % CROP == 0 for row in rows)
    assert np.concatenate([batch["example_weight"] for batch in validation.in_order(4, limit=5)]).sum() == 5


def test_processes_that_share_validation_read_what_one_alone_reads(folder):
    _, validation = readers(DRAWN, read_manifest(folder), folder)
    shares = [validation.in_order(4, 0, rows) for rows in (slice(None), slice(2), slice(2, 4))]
    for whole, *parts in zip(*shares, strict=True):
        for name, values in whole.items():
            assert np.array_equal(values, np.concatenate([part[name] for part in parts]))


def test_a_window_of_validation_names_its_record(folder):
    manifest = read_manifest(folder)
    validation = Windows(Reader(folder, manifest, "validation", TOKENS.names), CROP, 0)
    assert validation.records(range(len(validation))) == list(range(manifest.records("validation")))
    pieces_of = [validation.reader.record(number)["tokens"].tolist() for number in range(len(validation.reader))]
    for number, batch in enumerate(validation.in_order(1)):
        (record,) = validation.records(range(number, number + 1))
        first = int(batch["start_token"][0])
        real = TOKENS.real_length({name: batch[name][0] for name in TOKENS.names})
        assert pieces_of[record][first : first + CROP] == batch["tokens"][0][:real].tolist()
    assert validation.record(0)["key"].startswith(b"synthetic/")


def test_the_first_windows_of_validation_are_of_many_pieces_and_begin_anywhere(tmp_path):
    whole_scales(str(tmp_path), validation=40)
    _, validation = readers(DRAWN, read_manifest(str(tmp_path)), str(tmp_path))
    (first,) = validation.in_order(24, limit=24)
    assert len(validation) > 100 and len(validation.records(range(24))) > 12
    assert len(set(first["start_token"].tolist())) > 2
    (again,) = readers(DRAWN, read_manifest(str(tmp_path)), str(tmp_path))[1].in_order(24, limit=24)
    assert np.array_equal(first["tokens"], again["tokens"])


def test_a_piece_of_validation_is_read_once_for_all_its_windows_of_a_batch(folder, monkeypatch):
    _, validation = readers(DRAWN, read_manifest(folder), folder)
    asked, read = [], validation.reader.read
    monkeypatch.setattr(validation.reader, "read", lambda records: asked.append(records.tolist()) or read(records))
    list(validation.in_order(len(validation) + 3))
    assert asked == [list(range(len(validation.reader)))]


def test_without_a_crop_validation_is_read_as_it_was_written(tmp_path):
    from tests.trainer.synthetic import scales

    scales(str(tmp_path), window=64)
    manifest = read_manifest(str(tmp_path))
    for settings in (TrainSettings(redraw_transpose=(1,)), TrainSettings(redraw_crop=64)):
        train, validation = readers(settings, manifest, str(tmp_path))
        assert isinstance(validation, Reader)
        assert features_seen(settings, manifest) == manifest.features
        assert next(train.shuffled(0, 0, 4))["tokens"].shape == (4, 64)


def test_a_corrupt_piece_of_validation_counts_nothing_and_is_named(tmp_path):
    whole_scales(str(tmp_path))
    manifest, settings = read_manifest(str(tmp_path)), TrainSettings(redraw_crop=CROP, on_corrupt="skip")
    before = len(readers(settings, manifest, str(tmp_path))[1])
    damage(shard_of(str(tmp_path), split="validation"), 0)
    _, validation = readers(settings, manifest, str(tmp_path))
    assert list(validation.corrupt) == [0] and len(validation) < before
    assert 0 not in validation.records(range(len(validation)))
    assert sum(batch["example_weight"].sum() for batch in validation.in_order(4)) == len(validation)


class Edge:
    """A representation of which three draws in four leave the range."""

    def redraw(self, record, draw, crop, transpose):
        return None if transpose and draw.integers(4) else record


def test_draws_that_leave_the_range_are_drawn_again_and_counted(monkeypatch):
    monkeypatch.setattr(redraw, "DRAWS", 3)
    numbers, counts = np.arange(400), Redraws()
    made = Redraw(Edge(), 0, (1,))({"example_weight": np.ones(400, np.float32)}, 0, numbers)
    for number, count in enumerate(made[OUTSIDE].tolist()):
        draw = generator(0, number, "redraw")
        tried = [bool(draw.integers(4)) for _ in range(3)]
        assert count == (tried.index(False) if False in tried else 3)
    counts.note(made)
    assert counts.again == made[OUTSIDE].sum() and counts.kept == (made[OUTSIDE] == 3).sum() > 100


def test_an_example_none_of_whose_draws_fits_stays_in_its_key_and_is_counted(tmp_path):
    whole_scales(str(tmp_path))
    settings, counts = TrainSettings(redraw_crop=CROP, redraw_transpose=(127,)), Redraws()
    found = streamed(str(tmp_path), settings=settings)
    assert set(found[OUTSIDE].tolist()) == {DRAWS}
    counts.note(found)
    assert counts.figures() == {"drawn_again": 60.0 * DRAWS, "kept_key": 60.0}
    assert "960 draws of another key left the range" in counts.told()
    assert "but for 60 examples after 16 draws: they stayed in their key" in counts.told()


def test_a_continued_run_counts_on(folder):
    counts = Redraws([{"step": 1}, {"drawn_again": 5.0, "kept_key": 2.0}, {"drawn_again": "x", "kept_key": 1.0}])
    counts.note({OUTSIDE: np.array([1, DRAWS])})
    assert counts.figures() == {"drawn_again": 6.0 + DRAWS, "kept_key": 3.0}


def seen(settings, representation=None, **features):
    representation = representation or Events(window=64)
    name = type(representation).__name__.lower()
    return features_seen(
        settings, Manifest("made-up", "1", name, to_json(representation), features or representation.features(), ())
    )


def test_the_model_is_built_for_the_window_that_is_drawn():
    assert seen(DRAWN)["tokens"].shape == seen(DRAWN, Events(window=0))["tokens"].shape == (CROP,)
    assert seen(TrainSettings(), Events(window=0))["tokens"].shape == (None,)


@pytest.mark.parametrize(
    ("settings", "representation", "sentence"),
    [
        (
            {"redraw_crop": 65},
            Events(window=64),
            "--redraw-crop 65: records of this dataset have 64 tokens.*--window 0",
        ),
        ({"redraw_crop": 30}, Raster(window=64), "--redraw-crop 30: window 30 must lie on a multiple of 4"),
    ],
)
def test_a_window_that_cannot_be_drawn_is_refused(settings, representation, sentence):
    with pytest.raises(UsageError, match=sentence):
        seen(TrainSettings(**settings), representation)


def test_records_that_cannot_be_drawn_anew_are_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(redraw, "from_settings", lambda name, settings: SimpleNamespace())
    for settings in (TrainSettings(redraw_crop=8), TrainSettings(redraw_transpose=(1,))):
        with pytest.raises(
            UsageError, match="records of 'events' cannot be drawn anew, those of events, raster, voices"
        ):
            seen(settings)


NOT_DRAWN = {
    "tokens missing": ("tokens", None, "tokens is missing, and events has uint16 .64."),
    "one token": ("tokens", Feature("uint16"), "tokens is uint16 .., and events has uint16 .64."),
    "two axes": ("tokens", Feature("uint16", ("token", "voice"), (64, 4), storage="raw"), "tokens is uint16 .64, 4."),
    "byte strings": ("tokens", Feature("bytes", storage="list"), "tokens is bytes .."),
    "many starts": (
        "start_token",
        Feature("int64", ("start",), (3,)),
        "start_token is int64 .3., and events has int64 ..",
    ),
}


@pytest.mark.parametrize("settings", [{"redraw_crop": 8}, {"redraw_transpose": (1,)}])
@pytest.mark.parametrize(("name", "feature", "told"), NOT_DRAWN.values(), ids=NOT_DRAWN)
def test_a_manifest_whose_features_are_not_those_of_its_representation_is_refused(
    folder, settings, name, feature, told
):
    features = {**Events(window=64).features(), name: feature}
    features = {name: item for name, item in features.items() if item is not None}
    sentence = (
        f"--redraw-crop, --redraw-transpose: records of this dataset cannot be drawn anew: {told}.*Leave the flags"
    )
    with pytest.raises(UsageError, match=sentence):
        seen(TrainSettings(**settings), **features)
    with pytest.raises(UsageError, match=sentence):
        readers(
            TrainSettings(**settings),
            replace(read_manifest(folder), settings=to_json(Events(window=64)), features=features),
            folder,
        )


def test_the_bigram_is_counted_on_train_in_windows_of_the_trained_length(folder):
    train = Reader(folder, read_manifest(folder), "train", TOKENS.names)
    wholes = [tokens.tolist() for tokens in train.read(np.arange(len(train)))[0]["tokens"]]
    found = [window.tolist() for window in _train_windows(train, CROP)]
    assert found == [piece[start : start + CROP] for piece in wholes for start in range(0, len(piece), CROP)]
    assert [window.tolist() for window in _train_windows(train, 1000)] == wholes


@pytest.mark.parametrize(("name", "value"), [("redraw_crop", -1), ("redraw_transpose", (-128, 3))])
def test_settings_that_cannot_be_are_refused_by_name(name, value):
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}"):
        TrainSettings(**{name: value})


def test_pieces_of_any_length_are_found_without_parsing(folder):
    manifest = read_manifest(folder)
    source = Reader(folder, manifest, "train", piece_features(manifest.features))
    assert source._fields, "every feature can be found"
    columns, _ = source.read(np.arange(len(source)))
    for number in range(len(source)):
        record = source.record(number)
        for name in piece_features(manifest.features):
            assert np.array_equal(columns[name][number], record[name])
    assert len({len(tokens) for tokens in columns["tokens"]}) > 5
    assert manifest.features["tokens"] == Feature(
        "uint16", ("token",), (None,), "id", "Event ids without BOS, padded at the end.", "raw", 0, 389
    )


def test_a_corrupt_record_counts_nothing_and_every_other_example_is_drawn_as_before(tmp_path):
    whole_scales(str(tmp_path))
    settings = TrainSettings(redraw_crop=CROP, redraw_transpose=(-60, 0), on_corrupt="skip")
    sound = streamed(str(tmp_path), settings=settings)
    damage(shard_of(str(tmp_path)), 2)
    found = streamed(str(tmp_path), settings=settings)
    whole = found["example_weight"] > 0
    assert 0 < (~whole).sum() == (order(3, 0, 60, 20) == 2).sum()
    assert np.array_equal(found["tokens"][whole], sound["tokens"][whole])
    assert found[OUTSIDE][whole].sum() > 0 and not found[OUTSIDE][~whole].any()
