"""Settings of sampling and of the Music Transformer: what is refused, and that nothing imports Keras."""

import subprocess
import sys

import pytest

from schemas.errors import InputError, UsageError
from schemas.feature import Feature
from schemas.manifest import Manifest
from schemas.music import Notes, Piece
from schemas.representations.events import Events
from trainer.layers.sampling import Sampler
from trainer.models.music_transformer import SIZES, MusicTransformer
from trainer.models.performance_rnn import PerformanceRNN
from trainer.monitor import Monitor
from trainer.sample import Sampling, beginning, parse_length, remove_from


def manifest(features):
    return Manifest("corpus", "1", "frames", {}, features, ())


@pytest.mark.parametrize(("text", "length"), [("1024", 1024), ("30s", 30.0), ("0.5s", 0.5)])
def test_a_length_is_tokens_or_seconds(text, length):
    assert parse_length(text) == length
    assert type(parse_length(text)) is type(length)


@pytest.mark.parametrize("text", ["s", "30 m", "0", "-3", "-3s", "infs", "nans", "1.5"])
def test_anything_else_is_no_length(text):
    with pytest.raises(ValueError, match="no length"):
        Sampling("out", length=text)
    with pytest.raises(ValueError, match="no length"):
        Sampling("out", given_length=text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sampler": "beam"},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
    ],
)
def test_a_sampler_refuses_what_cannot_be_drawn_and_names_the_flag(wrong):
    flag = "--" + next(iter(wrong)).replace("_", "-")
    with pytest.raises(UsageError, match=flag):
        Sampler(**wrong)


def test_a_sample_begins_with_a_file_or_a_note_but_not_with_both(tmp_path):
    with pytest.raises(UsageError, match="not with both"):
        Sampling("out", given="a.mid", note=60)
    with pytest.raises(UsageError, match="--note 128"):
        Sampling("out", note=128)
    assert beginning(Sampling("out")) is None
    assert beginning(Sampling("out", note=61)).notes.pitch.tolist() == [61]
    (tmp_path / "words.mid").write_bytes(b"no music at all")
    with pytest.raises(InputError, match=r"words\.mid"):
        beginning(Sampling("out", given=str(tmp_path / "words.mid")))
    with pytest.raises(InputError, match=r"missing\.mid"):
        beginning(Sampling("out", given=str(tmp_path / "missing.mid")))


def test_a_file_without_notes_cannot_be_gone_on_from(tmp_path):
    from media.midi import write_midi

    (tmp_path / "silence.mid").write_bytes(write_midi(Piece("silence", Notes.empty())))
    with pytest.raises(InputError, match="holds no note"):
        beginning(Sampling("out", given=str(tmp_path / "silence.mid")))


@pytest.mark.parametrize(
    ("wrong", "flag"),
    [
        ({"heads": 3}, "--heads 3"),
        ({"positions": "absolute"}, "--positions absolute"),
        ({"dropout": 1.0}, "--dropout"),
        ({"attention_dropout": -0.1}, "--attention-dropout"),
        ({"token_dropout": 1.0}, "--token-dropout"),
        ({"layers": 0}, "--layers 0"),
        ({"positions": "rotary", "attention": 8, "heads": 8}, "must be even"),
        ({"positions": "sinusoidal", "hidden": 33}, "--hidden 33"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_before_anything_is_imported(wrong, flag):
    with pytest.raises(UsageError, match=flag):
        MusicTransformer(**wrong)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_can_be_built_with_rotary_positions(size):
    assert MusicTransformer(positions="rotary", **SIZES[size]).feed_forward == 4 * SIZES[size]["hidden"]


def test_windows_of_tokens_fit_whatever_their_length():
    assert MusicTransformer().needs(manifest(Events(window=256).features())) == []


def test_other_data_is_refused_with_both_sides_and_what_makes_the_right_one():
    (frames,) = MusicTransformer().needs(manifest({"frames": Feature("float32", ("frame",), (10,))}))
    assert (frames.found, frames.remedy) == ("frames", "--representation events")
    (whole,) = MusicTransformer().needs(manifest(Events(window=0).features()))
    assert whole.what == "window"
    assert whole.remedy == "--window 2048"


def test_a_port_is_a_port():
    with pytest.raises(UsageError, match="--port 70000"):
        Monitor(port=70_000)


def test_the_family_and_its_settings_import_no_keras():
    code = (
        "import sys, trainer.models.music_transformer, trainer.sample, trainer.evaluate, trainer.monitor;"
        "sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow', 'jax')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_samples_of_an_earlier_longer_series_are_removed_and_nothing_else(tmp_path):
    for name in ("sample-000.mid", "sample-001.wav", "sample-002.png", "sample-x.mid", "mine.mid"):
        (tmp_path / name).write_bytes(b"")
    remove_from(str(tmp_path), 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.mid", "sample-000.mid", "sample-x.mid"]


@pytest.mark.parametrize("text", ["100000000", "1e9s", "infs", "nans", "0", "-1s"])
def test_a_length_beyond_all_music_is_refused(text):
    with pytest.raises(ValueError, match="is no length"):
        parse_length(text)


def test_a_damaged_file_that_is_given_is_called_damaged(tmp_path):
    path = tmp_path / "x.mid"
    path.write_bytes(b"MThd damaged")
    with pytest.raises(InputError, match="cannot be read as MIDI"):
        beginning(Sampling(output=str(tmp_path), given=str(path)))


@pytest.mark.parametrize("family", [MusicTransformer, PerformanceRNN])
def test_vectors_of_voices_need_a_dataset_in_as_many_voices(family):
    features = Events(window=16).features()
    raster, events = (Manifest("corpus", "1", name, {}, features, ()) for name in ("raster", "events"))
    assert family(voices=4, metre=16).needs(raster) == family().needs(events) == family().needs(raster) == []
    with pytest.raises(UsageError, match="--metre 16: counts steps"):
        family(metre=16)
    (found,) = family(voices=4).needs(events)
    assert (found.what, found.found, found.remedy) == ("voices", "none", "--representation raster")
    assert [item.found for item in family(voices=3).needs(raster)] == ["4"]


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"hidden": 0}, {"dropout": 1.0}, {"voices": -1}, {"metre": -1}])
def test_a_recurrent_network_that_cannot_be_is_refused_and_the_flag_named(wrong):
    with pytest.raises(UsageError, match=f"--{next(iter(wrong))} "):
        PerformanceRNN(**wrong)
