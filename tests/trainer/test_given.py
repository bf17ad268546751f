"""What samples are made from: files, and voices of a score."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from media.midi import write_midi
from schemas.errors import InputError, UsageError
from schemas.grid import VOICES
from schemas.music import BAR_TICKS, PART_NAMES, TITLE, Notes, Piece, TempoMap
from schemas.representations.events import Events
from schemas.representations.raster import Raster
from schemas.representations.voices import Voices
from trainer.given import (
    MOST_STEPS,
    check_whole_steps,
    in_voices,
    kept_voices,
    one_note,
    opening,
    parse_voices,
    read_given,
    tell_voices,
)
from trainer.made import _for_midi, _title, dressed, write_sample
from trainer.sample import Sampling, _asked, _told_unsaid


def tracks(*numbers):
    """One note a track; its pitch is 60 + the track's number."""
    numbers = np.array(numbers)
    return Piece("file.mid", Notes.of([0] * len(numbers), [480] * len(numbers), 60 + numbers, 80, 0, numbers))


def keeping_voices(given, voices, count):
    return in_voices(given, kept_voices(given, voices, count))


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


def called(names, *sounding):
    """A file with parts of these names, of which some hold a note: 60 + the part's number."""
    return replace(tracks(*sounding), labels={PART_NAMES: names})


@pytest.mark.parametrize(
    ("names", "sounding", "expected"),
    [
        (("Soprano", "Alto", "Tenor", "Bass"), (1,), {1: 61}),
        (("", "", "", ""), (1,), {1: 61}),
        (("", "", "", ""), (3,), {3: 63}),
        (("", "", "Bass"), (2,), {3: 62}),
        (("Bass", "TENOR 1", "Alt", "Sopran"), (0, 1, 2, 3), {3: 60, 2: 61, 1: 62, 0: 63}),
        (("Flute", "", "Bassus"), (0, 1, 2), {0: 60, 1: 61, 3: 62}),
        (("",), (0,), {0: 60}),
        (("Piano",), (0,), {0: 60}),
        (("",) * 6, (0, 2, 3, 5), {0: 60, 1: 62, 2: 63, 3: 65}),
    ],
)
def test_a_part_is_the_voice_of_its_name_or_else_of_its_number_in_the_file(names, sounding, expected):
    assert voices_of(keeping_voices(called(names, *sounding), (), 4)) == expected


@pytest.mark.parametrize(
    ("voices", "expected"), [((2,), {2: 63}), ((1, 0), {1: 60, 0: 63}), ((3, 0), {0: 60, 3: 63}), ((3,), {3: 63})]
)
def test_voices_that_are_named_win_over_other_names_of_parts(voices, expected):
    sounding = (0, 3) if len(voices) == 2 else (3,)
    assert voices_of(keeping_voices(called(("Soprano", "", "", "Bass"), *sounding), voices, 4)) == expected


@pytest.mark.parametrize("voices", [(0, 3), (3, 0)])
def test_parts_that_are_named_as_the_voices_that_are_asked_for_keep_their_names_in_whatever_order(voices):
    given = called(("Soprano", "Bass"), 0, 1)
    assert voices_of(keeping_voices(given, voices, 4)) == {0: 60, 3: 61}


def test_voices_that_contradict_the_names_of_parts_win_and_that_is_told(capsys):
    given = called(("Soprano", "Bass"), 0, 1)
    kept = kept_voices(given, (1, 3), 4)
    assert kept == {0: 1, 1: 3}
    tell_voices(given, kept)
    told = capsys.readouterr().err
    assert "part 1 'Soprano' stays as alto, which --voices says against its name" in told
    assert "part 2 'Bass' stays as bass;" in told


def test_of_parts_that_bear_names_fewer_may_stay_and_an_accompaniment_goes():
    choir = called(("Soprano", "Alto", "Tenor", "Bass", "Organ"), 0, 1, 2, 3, 4)
    assert voices_of(keeping_voices(choir, (3, 1), 4)) == {1: 61, 3: 63}
    with pytest.raises(UsageError, match="5 parts with notes; a score has 4 voices"):
        keeping_voices(choir, (), 4)


@pytest.mark.parametrize(
    ("names", "sounding", "says"),
    [
        (("Soprano 1", "Soprano 2"), (0, 1), "part 1 'Soprano 1' and part 2 'Soprano 2' are both the soprano"),
        (("Flute", "Sopran"), (0, 1), "part 1 'Flute' and part 2 'Sopran' are both the soprano"),
        (("",) * 5, (0, 4), "part 5 is no voice, by its name or its number"),
    ],
)
def test_a_part_that_may_be_no_voice_or_another_is_refused_with_the_flag_that_says_it(names, sounding, says):
    with pytest.raises(UsageError, match=f"--given file.mid: {says}.*--voices"):
        keeping_voices(called(names, *sounding), (), 4)


def test_what_each_part_became_is_told_and_so_is_what_the_file_does_not_say(capsys):
    given = called(("Soprano", "Alt"), 1)
    tell_voices(given, kept_voices(given, (), 4))
    told = capsys.readouterr().err
    assert "--given: part 2 'Alt' stays as alto; made: soprano, tenor, bass" in told
    assert "says no metre, so 4/4" in told and "says no key, so C major" in told


def test_more_tracks_than_voices_or_than_names_are_refused():
    with pytest.raises(UsageError, match="5 parts with notes; a score has 4 voices"):
        keeping_voices(tracks(0, 1, 2, 3, 4), (), 4)
    with pytest.raises(UsageError, match=r"2 parts with notes \(part 1, part 2\), and --voices names 1; .* soprano"):
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
        run=run,
        task=SimpleNamespace(pitch_range=(36, 81)),
        representation=representation,
        features=representation.features(),
        model=SimpleNamespace(window=64),
    )
    return _asked(settings, piece, loaded)


def test_a_score_is_filled_over_its_own_length_and_a_note_over_a_window():
    melody = Piece("melody", Notes.of([0, 480], [480, 960], [70, 72], [80, 80]))
    assert asked(Sampling("out", given="melody.mid"), melody)[0] == 8
    assert asked(Sampling("out", given="melody.mid", length="12"), melody)[0] == 12
    assert asked(Sampling("out", note=70), one_note(70))[0] == 64
    assert asked(Sampling("out"), None)[:2] == (64, None)


def test_voices_that_no_grid_can_say_are_refused_by_name():
    chord = Piece("chord.mid", Notes.of([0, 0], [480, 480], [70, 74], [80, 80]))
    with pytest.raises(UsageError, match="^--given chord.mid: has several notes at once"):
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


def test_what_lies_behind_the_length_is_counted_and_told(capsys):
    melody = Piece("melody", Notes.of([0, 480], [480, 960], [70, 72], [80, 80]))
    assert asked(Sampling("out", given="melody.mid", length="3"), melody).length == 3
    assert "the last 5 of its 8 steps (0.6 s, 1 notes) lie behind --length" in capsys.readouterr().err
    assert asked(Sampling("out", given="melody.mid", length="0.5s"), melody).length == 4


def test_where_voices_that_stay_end_before_the_length_is_told_and_of_a_note_it_is_not(capsys):
    melody = Piece("melody", Notes.of([0, 480], [480, 960], [70, 72], [80, 80]))
    assert asked(Sampling("out", given="melody.mid", length="64"), melody).length == 64
    assert "--given: ends after 8 of 64 steps; what follows is made in all voices" in capsys.readouterr().err
    asked(Sampling("out", note=70, length="64"), one_note(70))
    assert "ends after" not in capsys.readouterr().err


@pytest.mark.parametrize(("length", "remedy"), [(65, "64 or 68"), (3, "4")])
def test_a_length_that_ends_within_a_step_of_four_voices_is_refused_with_those_beside_it(length, remedy):
    with pytest.raises(UsageError, match=f"--length {length}: every step has 4 tokens.* Type {remedy}[.]"):
        check_whole_steps(length, Raster())
    for fine in (64, 2.3, None):
        check_whole_steps(fine, Raster())
    check_whole_steps(length, Events())


def test_seconds_of_a_score_are_those_of_what_was_given():
    slow = Piece("slow", Notes.of([0], [960], [70], [80]), tempo=TempoMap.constant(480, 2_000_000))
    assert asked(Sampling("out", given="slow.mid", length="2s"), slow).length == 4


def test_more_steps_than_a_score_may_have_are_refused_before_the_model_is_asked():
    long = Piece("long.mid", Notes.of([0], [480 * MOST_STEPS], [70], [80]))
    with pytest.raises(UsageError, match=r"--given long.mid: 32,768 steps; .* at most, 512 bars .*--length 8192"):
        asked(Sampling("out", given="long.mid"), long)
    assert asked(Sampling("out", given="long.mid", length="8192"), long).length == 8192
    for piece in (None, long):
        with pytest.raises(UsageError, match="--length: 8,193 steps"):
            asked(Sampling("out", given="long.mid" if piece else "", length="8193"), piece)


@pytest.mark.parametrize("note", [-1, 70])
def test_more_seconds_than_a_score_may_have_are_refused_too(note):
    settings = Sampling("out", given="" if note == 70 else "note", note=note, length="3600s")
    with pytest.raises(UsageError, match="^--length: more than 8,192 steps; .* at most, 512 bars .*--length 8192"):
        asked(settings, one_note(70))
    longest = replace(settings, length="1024s")  # 8 steps a second
    assert asked(longest, one_note(70)).length == 8192
    with pytest.raises(UsageError, match="more than"):
        asked(replace(settings, length="1024.2s"), one_note(70))


def test_a_score_that_could_not_be_written_is_refused_before_it_is_filled():
    odd = Piece("odd.mid", Notes.of([0], [480 * 2000], [70], [80]), time_signatures=((0, 1, 64),))
    with pytest.raises(UsageError, match="^--given odd.mid: more than 10,000 bars. Take its beginning with --length"):
        asked(Sampling("out", given="odd.mid"), odd)


def test_a_pitch_that_the_run_does_not_know_is_told_with_its_place_and_a_remedy():
    notes = Notes.of([0, 480, 2400, 2880], [480, 960, 2880, 3360], [70, 72, 84, 85], 80)
    melody = Piece("high.mid", notes, time_signatures=((0, 3, 4),), labels={BAR_TICKS: (0, 480)})
    place = r"bar 2, quarter 2 \(2.5 s\), soprano: pitch 84 lies outside 36..81.*\(2 notes do\). Transpose"
    with pytest.raises(UsageError, match=f"^--given high.mid: {place}"):
        asked(Sampling("out", given="high.mid"), melody)
    assert asked(Sampling("out", given="high.mid", length="8"), melody).length == 8


def test_an_upbeat_stays_in_the_score_and_is_a_short_first_bar_in_midi(tmp_path):
    melody = Piece(
        "up",
        Notes.of([0, 480], [480, 1920], [70, 72], 80),
        time_signatures=((0, 1, 4), (480, 3, 4)),
        key_signatures=((0, -3, True),),
    )
    (tmp_path / "up.mid").write_bytes(write_midi(melody))
    given = read_given(str(tmp_path / "up.mid"))
    assert given.time_signatures == ((0, 3, 4),) and given.labels[BAR_TICKS] == (0, 480)
    made = dressed(Voices().piece_from_cells(np.full((16, 4), 60, np.uint8)), given)
    assert made.key_signatures == ((0, -3, True),)
    assert _for_midi(made).time_signatures == ((0, 1, 4), (480, 3, 4))
    assert given.labels[TITLE] == "up"
    assert _title(2, "run", in_voices(given, {0: 0}), filled=True) == "up, soprano given, sample 002"
    assert _title(2, "run", None, filled=True) == "run, sample 002"


@pytest.mark.parametrize(
    ("representation", "title"),
    [(Raster(), "chorale, continued, sample 000"), (Voices(), "chorale, soprano and bass given, sample 000")],
)
def test_a_score_that_goes_on_from_a_beginning_does_not_say_that_its_voices_were_given(representation, title, tmp_path):
    given = replace(tracks(0, 3), labels={TITLE: "chorale"})
    record = next(iter(representation.encode(tracks(0, 1, 2, 3))))
    loaded = SimpleNamespace(
        run=SimpleNamespace(name="run"), representation=representation, features=representation.features()
    )
    row = write_sample(str(tmp_path), 0, record, loaded, given).row
    assert f"<work-title>{title}</work-title>" in Path(row["musicxml"]).read_text()


def test_a_score_is_as_long_as_the_bars_of_its_file():
    alto = replace(called(("Alto",), 0), labels={PART_NAMES: ("Alto",), BAR_TICKS: (0, 1920, 3840)})
    assert asked(Sampling("out", given="alto.musicxml"), alto).length == 32
    assert asked(Sampling("out", given="alto.musicxml"), alto).kept == {0: 1}


def test_an_error_names_the_file_once(tmp_path):
    path = tmp_path / "bad.mid"
    path.write_bytes(b"MThd")
    with pytest.raises(InputError) as caught:
        read_given(str(path))
    assert str(caught.value).count(str(path)) == 1
