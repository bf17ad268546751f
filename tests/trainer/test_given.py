"""What samples are made from: files, and voices of a score."""

from types import SimpleNamespace

import numpy as np
import pytest

from media.midi import write_midi
from schemas.errors import InputError, UsageError
from schemas.grid import VOICES
from schemas.music import Notes, Piece, TempoMap
from schemas.representations.raster import Raster
from schemas.representations.voices import Voices
from trainer.given import keeping_voices, one_note, opening, parse_voices, read_given
from trainer.made import dressed
from trainer.sample import Sampling, _asked, _told_unsaid


def tracks(*numbers):
    """One note a track; its pitch is 60 + the track's number."""
    numbers = np.array(numbers)
    return Piece("file.mid", Notes.of([0] * len(numbers), [480] * len(numbers), 60 + numbers, 80, 0, numbers))


def voices_of(piece):
    """{voice: pitch}."""
    return dict(zip(piece.notes.track.tolist(), piece.notes.pitch.tolist(), strict=True))


def test_voices_are_named_in_any_order_and_case():
    assert parse_voices("Bass, soprano", VOICES) == (3, 0)
    assert parse_voices("", VOICES) == ()


@pytest.mark.parametrize("text", ["violin", "soprano,,bass", "soprano,soprano", ","])
def test_a_voice_that_there_is_not_is_refused(text):
    with pytest.raises(UsageError, match="--voices"):
        parse_voices(text, VOICES)


def test_a_single_track_is_the_soprano_unless_another_voice_is_named():
    assert voices_of(keeping_voices(tracks(5), (), 4)) == {0: 65}
    assert voices_of(keeping_voices(tracks(5), (2,), 4)) == {2: 65}


def test_two_tracks_go_to_the_voices_that_are_named_in_that_order():
    assert voices_of(keeping_voices(tracks(1, 7), (3, 0), 4)) == {3: 61, 0: 67}


def test_of_a_whole_score_the_named_voices_stay_and_the_others_are_left_out():
    whole = tracks(0, 1, 2, 3)
    assert voices_of(keeping_voices(whole, (1, 3), 4)) == {1: 61, 3: 63}
    assert voices_of(keeping_voices(whole, (), 4)) == {0: 60, 1: 61, 2: 62, 3: 63}


def test_more_tracks_than_voices_or_than_names_are_refused():
    with pytest.raises(UsageError, match="5 tracks with notes; a score has 4 voices"):
        keeping_voices(tracks(0, 1, 2, 3, 4), (), 4)
    with pytest.raises(UsageError, match="2 tracks with notes, and --voices names 1"):
        keeping_voices(tracks(0, 1), (0,), 4)


def test_voices_without_a_file_are_refused():
    with pytest.raises(UsageError, match="--voices soprano"):
        Sampling("out", voices="soprano")


def test_a_midi_file_is_read_and_what_is_none_is_named(tmp_path):
    good, bad, empty = (tmp_path / name for name in ("good.mid", "bad.mid", "empty.mid"))
    good.write_bytes(write_midi(tracks(0)))
    bad.write_bytes(b"RIFF")
    empty.write_bytes(write_midi(Piece("none", Notes.empty())))
    assert read_given(str(good)).notes.pitch.tolist() == [60]
    with pytest.raises(InputError, match="bad.mid: cannot be read as MIDI"):
        read_given(str(bad))
    with pytest.raises(InputError, match="empty.mid: holds no note"):
        read_given(str(empty))


def asked(settings, piece):
    """What is asked of a run on cells with windows of 64 steps."""
    run, representation = SimpleNamespace(name="cells"), Voices()
    loaded = SimpleNamespace(
        run=run, representation=representation, features=representation.features(), model=SimpleNamespace(window=64)
    )
    return _asked(settings, piece, loaded)


def test_a_score_is_filled_over_its_own_length_and_a_note_over_a_window():
    melody = Piece("melody", Notes.of([0, 480], [480, 960], [70, 72], [80, 80]))
    assert asked(Sampling("out", given="melody.mid"), melody)[0] == 8
    assert asked(Sampling("out", given="melody.mid", length="12"), melody)[0] == 12
    assert asked(Sampling("out", note=70), one_note(70))[0] == 64
    assert asked(Sampling("out"), None) == (64, None)


def test_voices_that_no_grid_can_say_are_refused_by_name():
    chord = Piece("chord.mid", Notes.of([0, 0], [480, 480], [70, 74], [80, 80]))
    with pytest.raises(UsageError, match="--given chord.mid: .*several notes at once"):
        asked(Sampling("out", given="chord.mid"), chord)


def test_what_the_grid_does_not_say_of_a_melody_is_counted_and_told(capsys):
    late = Piece("late", Notes.of([1, 200], [480, 210], [70, 72], [80, 80]))
    unsaid = _told_unsaid(late, SimpleNamespace(representation=Voices()))
    assert sum(unsaid.values()) == 2
    assert "--given: 1 notes begin and end between two steps, and are lost" in capsys.readouterr().err


def test_a_beginning_ends_with_a_whole_step():
    raster = Raster()
    chorale = raster.piece_from_tokens(np.tile(np.array([72, 67, 60, 48, 74, 65, 62, 50], np.uint16), 20))
    loaded = SimpleNamespace(representation=raster)
    for limit in (125, 127, 4.0):
        assert not (raster.tokens(opening(chorale, loaded, limit)) == 128).any()
    assert len(raster.tokens(opening(chorale, loaded, 125))) == 124


def test_a_filled_score_has_metre_key_and_tempo_of_what_was_given():
    made = Voices().piece_from_cells(np.full((12, 4), 60, np.uint8))
    tempo = TempoMap(96, np.array([0, 96]), np.array([500_000.0, 250_000.0]))
    given = Piece(
        "g",
        Notes.of([0], [96], [72], [80]),
        tempo=tempo,
        time_signatures=((0, 3, 4),),
        key_signatures=((96, 3, False),),
    )
    found = dressed(made, given)
    assert found.time_signatures == ((0, 3, 4),)
    assert found.key_signatures == ((found.tempo.ticks_per_quarter, 3, False),)
    assert found.seconds == pytest.approx(0.5 + 2 * 0.25)


def test_a_score_is_not_cut_where_it_is_to_be_filled():
    with pytest.raises(UsageError, match="--given-length"):
        asked(Sampling("out", given="melody.mid", given_length="4"), tracks(0))
