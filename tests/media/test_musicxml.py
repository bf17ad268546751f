"""MusicXML: music21 reads what is written, with equal notes and full bars; what is no score is refused by reason."""

import io
import sys
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.musicxml import LARGEST_SCORE, read_musicxml, write_musicxml
from schemas.errors import MissingExtra, Unreadable
from schemas.grid import LENGTH_TICKS, RANGES, REST, piece_of
from schemas.music import BAR_TICKS, PART_NAMES, InvalidMusic, Notes, Piece, TempoMap

BAR = 4 * 480


def piece_in_ticks(*notes, **more):
    """A piece of (voice, start tick, end tick, pitch), 480 ticks a quarter."""
    track, start, end, pitch = zip(*notes, strict=True)
    return Piece("test", Notes.of(start, end, pitch, 80, 52, track), **more)


def notes_of(piece):
    notes = piece.notes
    return sorted(zip(*(getattr(notes, name).tolist() for name in ("track", "start", "end", "pitch")), strict=True))


def bars_of(data):
    """[part][bar] -> elements of the notes and rests in it."""
    return [[bar.findall("note") for bar in part.iter("measure")] for part in ET.fromstring(data).iter("part")]


def ticks(note):
    return int(note.findtext("duration"))


@st.composite
def chorales(draw):
    steps = draw(st.integers(1, 40))
    columns = [
        draw(st.lists(st.integers(*span) | st.just(REST), min_size=steps, max_size=steps)) for span in RANGES["vocal"]
    ]
    held = draw(st.integers(1, 9))
    piece = piece_of(np.repeat(np.transpose(columns), held, axis=0), 4, 100.0, name="drawn")
    signature = draw(st.sampled_from([(), ((0, 3, 4),), ((0, 4, 4), (2 * BAR, 3, 2))]))
    key = draw(st.sampled_from([(), ((0, -3, True),), ((0, 4, False), (BAR, 2, False))]))
    return replace(piece, time_signatures=signature, key_signatures=key)


@given(piece=chorales())
@settings(deadline=None, max_examples=25)
def test_music21_reads_the_same_notes_and_signatures_back(piece):
    pytest.importorskip("music21")
    again = read_musicxml(write_musicxml(piece), "again")
    assert notes_of(again) == notes_of(piece)
    assert again.time_signatures[0] == (piece.time_signatures or ((0, 4, 4),))[0]
    assert again.key_signatures[0] == (piece.key_signatures or ((0, 0, False),))[0]
    assert again.labels[PART_NAMES] == ("Soprano", "Alto", "Tenor", "Bass")


@given(piece=chorales())
@settings(deadline=None, max_examples=50)
def test_every_bar_of_every_part_is_full(piece):
    top, bottom = (piece.time_signatures or ((0, 4, 4),))[0][1:]
    parts = bars_of(write_musicxml(piece))
    assert len(parts) == 4 and len({len(bars) for bars in parts}) == 1
    for bars in parts:
        lengths = [sum(map(ticks, bar)) for bar in bars]
        assert lengths[:2] == [BAR * top // bottom] * len(lengths[:2])
        if piece.time_signatures[1:]:
            assert set(lengths[2:]) <= {BAR * 3 // 2}
        assert sum(lengths) >= piece.labels[LENGTH_TICKS]


def test_music21_finds_the_bars_full(tmp_path):
    music21 = pytest.importorskip("music21")
    path = tmp_path / "score.musicxml"
    path.write_bytes(write_musicxml(piece_in_ticks((0, 120, BAR + 360, 72), (3, 0, 3 * BAR - 120, 48))))
    for part in music21.converter.parse(path, forceSource=True, storePickle=False).parts:
        bars = list(part.getElementsByClass("Measure"))
        assert [bar.duration.quarterLength for bar in bars] == [4.0, 4.0, 4.0]
        assert [bar.paddingLeft for bar in bars] == [0, 0, 0]


def test_a_note_over_a_bar_line_is_tied_and_written_in_lengths_that_notes_have():
    soprano = bars_of(write_musicxml(piece_in_ticks((0, 1200, 2640, 72))))[0]
    first, second = ([(ticks(note), note.findtext("type"), *tied(note)) for note in bar] for bar in soprano)
    assert first == [(960, "half"), (240, "eighth"), (720, "quarter", "start")]
    assert second == [(720, "quarter", "stop"), (960, "half"), (240, "eighth")]


def tied(note):
    assert [tie.get("type") for tie in note.iter("tie")] == [tie.get("type") for tie in note.iter("tied")]
    return [tie.get("type") for tie in note.iter("tie")]


def test_a_length_that_no_note_has_is_written_as_it_is():
    soprano = bars_of(write_musicxml(piece_in_ticks((0, 0, 160, 72), (0, 160, 480, 74))))[0]
    assert [(ticks(note), note.findtext("type")) for note in soprano[0][:2]] == [(160, None), (320, None)]


@pytest.mark.parametrize(
    ("sharps", "pitch", "spelt"),
    [(0, 70, "B-1 4"), (0, 66, "F1 4"), (0, 68, "G1 4"), (-4, 68, "A-1 4"), (4, 68, "G1 4"), (-7, 71, "C-1 5")],
)
def test_a_pitch_is_spelt_as_its_key_has_it(sharps, pitch, spelt):
    data = write_musicxml(piece_in_ticks((0, 0, 480, pitch), key_signatures=((0, sharps, False),)))
    [found] = ET.fromstring(data).iter("pitch")
    assert f"{found.findtext('step')}{found.findtext('alter') or ''} {found.findtext('octave')}" == spelt


def test_a_score_bears_name_and_tempo_and_does_no_harm_by_its_name():
    piece = replace(piece_in_ticks((0, 0, 480, 60)), name='<a> & "b"\x07')
    root = ET.fromstring(write_musicxml(replace(piece, tempo=TempoMap.constant(480, 60e6 / 72))))
    assert root.findtext("work/work-title") == '<a> & "b"\\x07'
    assert root.find(".//sound").get("tempo") == "72"


@pytest.mark.parametrize(
    ("piece", "reason"),
    [
        (piece_in_ticks((0, 0, 480, 60), (0, 240, 480, 64)), "not-four-voices"),
        (piece_in_ticks((7, 0, 480, 60)), "not-four-voices"),
        (piece_in_ticks((0, 0, 1 << 40, 60)), "too-long"),
        (piece_in_ticks((0, 0, BAR * 9, 60), time_signatures=((0, 0, 4),)), "too-long"),
    ],
)
def test_what_cannot_be_written_is_refused_with_a_reason(piece, reason):
    with pytest.raises(InvalidMusic) as caught:
        write_musicxml(piece)
    assert caught.value.reason == reason


def compressed(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def test_a_compressed_score_is_the_score_in_it():
    pytest.importorskip("music21")
    piece = piece_in_ticks((0, 0, 480, 60), (1, 480, 960, 57))
    data = compressed({"META-INF/container.xml": b"<container/>", "score.musicxml": write_musicxml(piece)})
    assert notes_of(read_musicxml(data, "score.mxl")) == notes_of(piece)


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"", "a.mxl", "bad-mxl"),
        (b"no score", "a.mxl", "bad-mxl"),
        (compressed({"readme.txt": b"hello"}), "a.mxl", "bad-mxl"),
        (b"\xff\xfe\x00", "a.musicxml", "bad-musicxml"),
        (b"\x80\x81", "a.musicxml", "bad-musicxml"),
        (b'<!DOCTYPE s [<!ENTITY a "aaaa">]><s>&a;</s>', "a.musicxml", "bad-musicxml"),
        (b"<score-partwise><part", "a.musicxml", "bad-musicxml"),
        (b" " * (LARGEST_SCORE + 1), "a.musicxml", "too-large"),
    ],
)
def test_what_is_no_score_is_refused_with_a_reason(data, name, reason):
    pytest.importorskip("music21")
    with pytest.raises(Unreadable) as caught:
        read_musicxml(data, name)
    assert caught.value.reason == reason


NOTE = (
    "<note>{chord}<pitch><step>{step}</step><octave>5</octave></pitch><duration>4</duration>{tie}"
    "<type>whole</type></note>"
)


def score_of(measures, attributes=""):
    """A score of one part; measures are lists of notes."""
    attributes = f"<attributes><divisions>1</divisions>{attributes}</attributes>"
    bars = "".join(f'<measure number="{number}">{bar}</measure>' for number, bar in enumerate(measures, 1))
    return (
        '<score-partwise version="4.0"><part-list><score-part id="P1"><part-name>P</part-name></score-part></part-list>'
        f'<part id="P1">{bars.replace("ATTRIBUTES", attributes)}</part>'
        "</score-partwise>"
    ).encode()


def test_a_chord_that_is_tied_to_itself_is_two_long_notes():
    def chord(tie):
        tie = f'<tie type="{tie}"/>'
        return NOTE.format(chord="", step="C", tie=tie) + NOTE.format(chord="<chord/>", step="E", tie=tie)

    found = read_musicxml(score_of(["ATTRIBUTES" + chord("start"), chord("stop")]), "tied.musicxml").notes
    assert list(zip(found.pitch.tolist(), found.start.tolist(), found.end.tolist(), strict=True)) == [
        (72, 0, 8 * 480),
        (76, 0, 8 * 480),
    ]


def test_a_clarinet_is_read_as_it_sounds():
    transpose = "<transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose>"
    data = score_of(["ATTRIBUTES" + NOTE.format(chord="", step="D", tie="")], transpose)
    assert read_musicxml(data, "clarinet.musicxml").notes.pitch.tolist() == [72]


def test_without_music21_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "music21.musicxml.xmlToM21", None)
    with pytest.raises(MissingExtra, match="pip install"):
        read_musicxml(b"<score-partwise/>", "a.musicxml")


def test_an_upbeat_and_a_bar_in_two_halves_are_written_and_read_back_as_such():
    pytest.importorskip("music21")
    lines = (0, 480, 480 + BAR, 480 + BAR + 1440, 480 + 2 * BAR, 480 + 2 * BAR + 1440)
    piece = piece_in_ticks((0, 0, 960, 72), (1, 960, 5760, 60), labels={BAR_TICKS: lines, "length_ticks": lines[-1]})
    data = write_musicxml(piece)
    measures = [bar.attrib for bar in next(ET.fromstring(data).iter("part"))]
    implicit = {"implicit": "yes"}
    numbers = [{"number": "0", **implicit}, {"number": "1"}, {"number": "2"}, {"number": "2", **implicit}]
    assert measures == [*numbers, {"number": "3"}]
    again = read_musicxml(data, "again")
    assert again.labels[BAR_TICKS] == lines and notes_of(again) == notes_of(piece)


@given(
    lines=st.lists(st.integers(1, 30), max_size=8).map(lambda steps: tuple(np.cumsum([0, *steps]) * 240)),
    top=st.integers(1, 13),
)
@settings(deadline=None, max_examples=25)
def test_wherever_bar_lines_stand_the_same_notes_are_read_back(lines, top):
    pytest.importorskip("music21")
    notes = [(0, 0, 480, 72), (0, 480, 6000, 74), (2, 2400, 2640, 60), (3, 7000, 7200, 50)]
    piece = piece_in_ticks(*notes, labels={BAR_TICKS: lines}, time_signatures=((0, top, 4),))
    assert notes_of(read_musicxml(write_musicxml(piece), "again")) == notes_of(piece)


def bars_in_quarters(bars):
    """A piece of so many bars of 2/4."""
    cells = 60 + np.arange(2 * bars)[:, None] % 2 * np.arange(1, 5)
    return replace(piece_of(cells, 1, 100.0), time_signatures=((0, 2, 4),))


def test_what_is_written_is_no_longer_than_what_is_read():
    write_musicxml(bars_in_quarters(4000))
    for bars in (4001, 12_000):
        with pytest.raises(InvalidMusic) as caught:
            write_musicxml(bars_in_quarters(bars))
        assert caught.value.reason == "too-long"


@pytest.mark.slow
def test_a_score_of_many_full_bars_is_read_back():
    pytest.importorskip("music21")
    piece = bars_in_quarters(1800)
    assert notes_of(read_musicxml(write_musicxml(piece), "again")) == notes_of(piece)


def test_a_title_is_read_of_work_or_movement():
    pytest.importorskip("music21")
    data = score_of(["ATTRIBUTES" + NOTE.format(chord="", step="D", tie="")])
    assert "title" not in read_musicxml(data, "a").labels
    data = data.replace(b"<part-list>", b"<work><work-title>Psalm  1</work-title></work><part-list>")
    assert read_musicxml(data, "a").labels["title"] == "Psalm 1"
