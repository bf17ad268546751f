"""What is read of a score's XML: no more than music needs, and what no music has is refused by its name and place."""

import pytest

from media.musicxml import read_musicxml
from schemas.errors import Unreadable

FOUR_FOUR = "<time><beats>4</beats><beat-type>4</beat-type></time>"


def score_of(measures, attributes=FOUR_FOUR):
    """A score of one part on one line; the first measure begins with its attributes."""
    attributes = f"<attributes><divisions>1</divisions>{attributes}</attributes>"
    bars = "".join(f'<measure number="{number}">{bar}</measure>' for number, bar in enumerate(measures, 1))
    return (
        '<score-partwise version="4.0"><part-list><score-part id="P1"><part-name>P</part-name></score-part></part-list>'
        f'<part id="P1">{bars.replace(">", ">" + attributes, 1)}</part></score-partwise>'
    ).encode()


def bar(*music, attributes=FOUR_FOUR):
    """A score of one bar."""
    return score_of(["".join(music)], attributes)


def note(octave=5, duration=4, more=""):
    pitch = f"<pitch><step>C</step><octave>{octave}</octave></pitch>"
    return f"<note>{pitch}<duration>{duration}</duration>{more}</note>"


def refusal(data, name="a.musicxml"):
    pytest.importorskip("music21")
    with pytest.raises(Unreadable) as caught:
        read_musicxml(data, name)
    assert str(caught.value).startswith(f"{name}: ") and str(caught.value).isprintable()
    return caught.value


def starts_and_ends(data):
    notes = read_musicxml(data, "a.musicxml").notes
    return list(zip((notes.start / 480).tolist(), (notes.end / 480).tolist(), strict=True))


@pytest.mark.parametrize("divisions", ["0", "-1", "1e300", "1e-300", "nan", "inf", "", "x"])
def test_a_division_of_zero_or_of_no_number_is_refused_by_name(divisions):
    data = bar(note()).replace(b"<divisions>1<", f"<divisions>{divisions}<".encode())
    assert f"<divisions> is '{divisions}', not a number from" in str(refusal(data))


@pytest.mark.parametrize(
    ("music", "says"),
    [
        (note(duration="-1"), "<duration> is '-1', not a number from 0"),
        (note(duration="1e300"), "<duration> is '1e300'"),
        (note(octave="x"), "<octave> is 'x', not a whole number"),
        (note(octave=99), "<octave> is '99'"),
        (note().replace(">C<", ">H<"), "<step> is 'H', none of A, B, C"),
        (note(more="<staff>17</staff>"), "<staff> is '17'"),
        ("<note><duration>4</duration></note>", "neither a rest nor a pitch"),
        ("<note><pitch><step>C</step></pitch><duration>4</duration></note>", "neither a rest nor a pitch"),
        ("<note><rest/></note>", "a <note> has no <duration>"),
        (note() + "<note><chord/><rest/><duration>4</duration></note>", "a <rest> is part of a <chord>"),
        ("<note><rest/><duration>4</duration></note>" + note(more="<chord/>"), "a <rest> is part of a <chord>"),
        ("<forward/>", "a <forward> has no <duration>"),
        (note() + "<backup><duration>5</duration></backup>", "a <backup> leads to before the measure begins"),
        ("<attributes><key><fifths>1000000000</fifths></key></attributes>", "<fifths> is '1000000000'"),
        ("<attributes><staves>100000</staves></attributes>", "<staves> is '100000'"),
        ("<attributes><transpose><chromatic>999</chromatic></transpose></attributes>", "<chromatic> is '999'"),
    ],
)
def test_what_no_music_has_is_refused_by_its_name_and_place(music, says):
    error = refusal(bar(music))
    assert says in str(error) and "part P1, measure 1, line 1" in str(error) and error.reason == "bad-musicxml"


def test_a_note_before_any_division_is_refused():
    assert "before any <divisions>" in str(refusal(bar(note()).replace(b"<divisions>1</divisions>", b"")))


def test_a_part_that_the_list_does_not_name_is_refused_and_not_left_out():
    assert "part P9" in str(refusal(bar(note()).replace(b'<part id="P1">', b'<part id="P9">')))


def test_a_place_is_told_by_the_line_of_its_measure():
    error = refusal(score_of([note(), "\n\n", "\n" + note(octave="")]).replace(b"<part-list>", b"\n<part-list>"))
    assert "measure 3, line 4" in str(error)


@pytest.mark.parametrize("pitch", [note(octave=-2), note(octave=10), "TRANSPOSED" + note(octave=9)])
def test_a_pitch_that_midi_has_not_is_refused_and_not_moved_by_octaves(pitch):
    up = "<attributes><transpose><chromatic>12</chromatic></transpose></attributes>"
    error = refusal(bar(pitch.replace("TRANSPOSED", up)))
    assert "measure 1: the pitch " in str(error) and "outside 0 to 127" in str(error)


@pytest.mark.parametrize(
    "music", [note(duration=400_000_000), "<forward><duration>999999999</duration></forward>" + note()]
)
def test_a_note_that_ends_after_a_day_is_refused_before_anybody_encodes_it(music):
    error = refusal(bar(music))
    assert error.reason == "too-long" and "measure 1: a note ends at quarter " in str(error)


@pytest.mark.parametrize("beats", ["1e300", "-3", "0", "4+", "x", ""])
def test_beats_that_are_no_number_are_refused_by_name(beats):
    assert f"<beats> is '{beats}'" in str(refusal(bar(note()).replace(b"<beats>4<", f"<beats>{beats}<".encode())))


def test_a_time_without_its_kind_of_beat_is_refused_by_name():
    assert "1 <beats> and 0 <beat-type>" in str(refusal(bar(note()).replace(b"<beat-type>4</beat-type>", b"")))


SWELLING = {
    "beats of one bar": bar(note()).replace(b"<beats>4<", b"<beats>5000<"),
    "beats of many times": bar(note(), attributes=FOUR_FOUR * 20_000),
    "bars": bar(note(), "</measure><measure>" * 3000),
    "bars of many parts": bar().replace(
        b"</part>", b"</part>" + (b'<part id="P1">' + b"<measure/>" * 50 + b"</part>") * 500
    ),
    "parts": bar().replace(b"</part>", b"</part>" + b'<part id="P1"/>' * 2000),
    "notes": bar("<note/>" * 50_000),
    "staves": bar("".join(note(more=f"<staff>{number}</staff>") for number in range(50))),
    "keys": bar("<attributes><key><fifths>1</fifths></key></attributes>" * 6000),
    "dots": bar(note(more="<dot/>" * 250_000)),
}


@pytest.mark.parametrize("data", SWELLING.values(), ids=SWELLING)
def test_what_music21_would_need_hours_or_gigabytes_for_is_refused_before(data, monkeypatch):
    error = refusal(data)
    assert error.reason == "too-large" and "line 1: more than " in str(error)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "definition",
    [
        '<!ENTITY a "aaaa">',
        '<!ENTITY % a SYSTEM "file:///etc/passwd">',
        '<!ATTLIST note x CDATA "aaaa">',
        "<!ELEMENT a ANY>",
    ],
)
def test_definitions_are_refused_however_they_are_encoded(definition, encoding):
    text = f"<!DOCTYPE score-partwise [{definition}]>" + bar(note()).decode()
    assert refusal(text.encode(encoding)).reason == "bad-musicxml"


def test_the_public_definition_of_musicxml_is_named_and_not_fetched():
    kind = b'<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" "http://localhost:1/a.dtd">'
    assert starts_and_ends(b'<?xml version="1.0" encoding="ISO-8859-1"?>' + kind + bar(note())) == [(0, 4)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"<a>" * 100_000, "<a> instead of <score-partwise>"),
        (b"<score-timewise/>", "<score-timewise> instead of <score-partwise>. Export it"),
        (b"<score-partwise>" + b"<a>" * 100_000, "64 elements inside one another"),
        (bar(note()).replace(b">P<", b">" + b"P" * 1001 + b"<"), "more than 1000 letters in a <part-name>"),
        (bar(note()).replace(b"</measure>", b""), "mismatched tag, raised by the XML itself, line 1, column "),
    ],
)
def test_xml_that_is_no_score_is_refused_by_its_line(data, says):
    assert says in str(refusal(data)) and "line 1" in str(refusal(data))


def test_what_does_not_sound_is_not_shown_to_music21():
    """Directions that reach beyond a bar would move the next one; slurs and endings take time by their square."""
    words = "<direction><direction-type><words>x</words></direction-type><offset>3</offset></direction>"
    shown = '<lyric><text>la</text></lyric><notations><slur type="start"/></notations><type>huge</type>'
    ending = '<barline><ending number="1" type="start"/></barline><harmony/><clef/><sound tempo="nan"/><print/>'
    grace = "<note><grace/><pitch><step>C</step><octave>99</octave></pitch></note>"
    pytest.importorskip("music21")
    adorned = score_of([grace + note(more=shown) + words, note() + ending])
    assert starts_and_ends(adorned) == starts_and_ends(score_of([note(), note()])) == [(0, 4), (4, 8)]


def test_a_rest_is_as_long_as_its_bar_only_if_no_type_says_how_long_it_is():
    pytest.importorskip("music21")
    upbeat = '<note><rest measure="yes"/><duration>1</duration>{}</note>'
    assert starts_and_ends(score_of([upbeat.format("<type>quarter</type>"), note()])) == [(1, 5)]
    assert starts_and_ends(score_of([upbeat.format(""), note()])) == [(4, 8)]


def test_a_note_that_names_no_staff_is_on_the_first_and_on_no_other():
    pytest.importorskip("music21")
    staves = '<staves>2</staves><clef number="1"><sign>G</sign></clef><clef number="2"><sign>?</sign></clef>'
    assert starts_and_ends(bar(note(), attributes=FOUR_FOUR + staves)) == [(0, 4)]
    assert starts_and_ends(bar(note(), attributes=FOUR_FOUR + "<staves>2</staves>")) == [(0, 4)]


def test_a_transposition_by_octaves_needs_no_steps():
    pytest.importorskip("music21")
    octave = "<transpose><chromatic>0</chromatic><octave-change>-1</octave-change></transpose>"
    assert read_musicxml(bar(note(), attributes=FOUR_FOUR + octave), "bass.musicxml").notes.pitch.tolist() == [60]


def test_a_key_of_single_signs_is_none():
    pytest.importorskip("music21")
    key = "<key><key-step>F</key-step><key-alter>1</key-alter></key>"
    assert read_musicxml(bar(note(), attributes=FOUR_FOUR + key), "a.musicxml").key_signatures == ()


def test_where_music21_stumbles_is_told_by_part_and_measure(monkeypatch):
    pytest.importorskip("music21")

    def stumbling(parser, *_):
        raise ValueError(f"stumbled at \x1b {parser.measureNumber}")

    monkeypatch.setattr("music21.musicxml.xmlToM21.MeasureParser.xmlToPitch", stumbling)
    error = refusal(score_of(["<note><rest/><duration>4</duration></note>", note()]))
    assert r"part P1, measure 2, line 1: ValueError: stumbled at \x1b 2, raised by " in str(error)


@pytest.mark.parametrize(
    "music",
    [
        note(duration=3),
        note(duration=2) + "<backup><duration>1</duration></backup>" + note(duration=3),
        note(duration=4, more="<voice>2</voice>"),
        "<note><rest/><duration>4</duration><type>half</type></note>",
        '<note><rest measure="yes"/><duration>4</duration></note>',
        "<attributes><time><beats>2+2</beats><beat-type>4</beat-type></time></attributes>" + note(duration=4),
        "<attributes><divisions>999983</divisions></attributes>" + note(duration=4 * 999_983),
    ],
)
def test_bars_that_are_not_plainly_full_are_counted_in_full(music):
    assert "pairs of bars" in str(refusal(score_of([note(), *[music] * 2900])))
