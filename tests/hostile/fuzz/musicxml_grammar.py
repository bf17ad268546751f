"""Scores made at random from the grammar of MusicXML, and damage that keeps the rest whole: to get a fuzzer deep."""

import io
import zipfile
from collections.abc import Callable
from copy import deepcopy
from random import Random
from xml.etree.ElementTree import Element, ParseError, SubElement, fromstring, tostring

HOSTILE = (
    "", "0", "-1", "1", "3", "0.5", "-0.0", "1e300", "1e-300", "nan", "inf", "x", "H", "99", "-99", "128", "7.5", "1_0",
    "0x10", "9" * 30, "9" * 5000, "3+2", "4+", "100000", "1000000000", "minor", "start", "stop", "P1", "\u0664", " 4 ",
    "\u202e", "a" * 1001, "whole", "1024th", "double-flat", "1/2",
)  # fmt: skip
TAGS = (
    "score-partwise", "part-list", "score-part", "part-name", "part", "measure", "attributes", "divisions", "key",
    "fifths", "mode", "key-step", "key-alter", "time", "beats", "beat-type", "senza-misura", "staves", "clef", "sign",
    "line", "transpose", "diatonic", "chromatic", "octave-change", "note", "pitch", "step", "alter", "octave", "rest",
    "unpitched", "chord", "grace", "cue", "duration", "tie", "voice", "staff", "type", "dot", "accidental", "backup",
    "forward", "time-modification", "direction", "sound", "barline", "repeat", "ending", "notations", "slur", "tuplet",
    "harmony", "print", "lyric", "identification", "encoding", "software", "midi-instrument", "midi-program",
    "instrument-name", "score-instrument", "work", "{urn:x}note",
)  # fmt: skip
ATTRIBUTES = ("id", "number", "type", "measure", "print-object", "dynamics", "version", "width", "implicit")
SIGNATURES = ((4, 4), (4, 4), (3, 4), (6, 8), (1, 128), (5, 1), (17, 16))
# Few pitches, or nothing would be tied to or struck against anything.
PITCHES = (("C", 0, 4), ("C", 1, 4), ("D", -1, 4), ("G", 0, 5), ("B", 1, 3), ("A", 0.5, 2), ("G", 0, 9), ("C", 0, -1))
DOCTYPES = (
    '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" "http://localhost/partwise.dtd">',
    '<!DOCTYPE score-partwise SYSTEM "file:///etc/passwd">',
    '<!DOCTYPE score-partwise [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
    f'<!DOCTYPE score-partwise [<!ATTLIST note dynamics CDATA "{"8" * 999}">]>',
    '<!DOCTYPE score-partwise [<!ELEMENT note ANY><!NOTATION n SYSTEM "n">]>',
)


def made_score(draw: Random) -> bytes:
    """A score; half of them are right in every value."""
    odd = draw.choice((0.0, 0.0, 0.002, 0.02))
    root = Element("score-partwise", version="4.0")
    listed = SubElement(root, "part-list")
    signature = draw.choice(SIGNATURES)
    bars = draw.choice((1, 1, 2, 4, 8))
    for number in range(draw.choice((1, 1, 2, 4))):
        SubElement(SubElement(listed, "score-part", id=f"P{number}"), "part-name").text = draw.choice(("Alto", "", "é"))
        part = SubElement(root, "part", id=f"P{number}")
        divisions, staves = draw.choice((1, 2, 3, 4, 24, 480, 10080, 0.5)), draw.choice((1, 1, 1, 2, 3))
        for bar in range(bars):
            measure = SubElement(part, "measure", number=str(bar + 1))
            if bar == 0 or draw.random() < 0.1:
                _add_attributes(measure, draw, divisions if bar == 0 else None, signature, staves)
            _add_music(measure, draw, divisions, signature, staves)
    for element in root.iter():
        if draw.random() < odd:
            element.text = draw.choice(HOSTILE)
    return tostring(root)


def _add_attributes(
    measure: Element, draw: Random, divisions: float | None, signature: tuple[int, int], staves: int
) -> None:
    attributes = SubElement(measure, "attributes")
    if divisions is not None:
        SubElement(attributes, "divisions").text = str(divisions)
    if draw.random() < 0.7:
        key = SubElement(attributes, "key")
        SubElement(key, "fifths").text = str(draw.randint(-8, 8))
        SubElement(key, "mode").text = draw.choice(("major", "minor", "dorian", "none"))
    if draw.random() < 0.9:
        time = SubElement(attributes, "time")
        SubElement(time, "beats").text, SubElement(time, "beat-type").text = map(str, signature)
    if staves > 1:
        SubElement(attributes, "staves").text = str(staves)
    for staff in range(staves):
        clef = SubElement(attributes, "clef", number=str(staff + 1))
        SubElement(clef, "sign").text = draw.choice(("G", "F", "C", "percussion", "none"))
    if draw.random() < 0.2:
        transpose = SubElement(attributes, "transpose")
        SubElement(transpose, "chromatic").text = str(draw.randint(-12, 12))
        if draw.random() < 0.5:
            SubElement(transpose, "octave-change").text = str(draw.randint(-1, 1))


def _add_music(measure: Element, draw: Random, divisions: float, signature: tuple[int, int], staves: int) -> None:
    """Voices one after the other, most of them as long as the bar."""
    full = divisions * 4 * signature[0] / signature[1]
    for voice in range(draw.choice((1, 1, 1, 2, 3))):
        at = 0.0
        for _ in range(draw.choice((1, 4, 4, 16))):
            length = min(full - at, draw.choice((1, 2, divisions, divisions / 2, divisions / 3, full)))
            if length <= 0:
                break
            if draw.random() < 0.05:
                _add_sound(measure, draw, None, voice, staves)
            _add_sound(measure, draw, length, voice, staves)
            at += length
        if draw.random() < 0.8 and at < full:
            SubElement(SubElement(measure, "forward"), "duration").text = f"{full - at:.9g}"
            at = full
        SubElement(SubElement(measure, "backup"), "duration").text = f"{at:.9g}"


def _add_sound(measure: Element, draw: Random, length: float | None, voice: int, staves: int) -> None:
    """A note, a rest or a chord; with a length of None, grace notes."""
    for number in range(draw.choice((1, 1, 1, 1, 1, 1, 2, 4))):
        note = SubElement(measure, "note")
        if length is None:
            SubElement(note, "grace")
        if number:
            SubElement(note, "chord")
        kind = draw.choice(("pitch",) * 8 + ("rest", "unpitched"))
        sound = SubElement(note, kind)
        if kind == "pitch":
            for tag, value in zip(("step", "alter", "octave"), draw.choice(PITCHES), strict=True):
                SubElement(sound, tag).text = str(value)
        if length is not None:
            SubElement(note, "duration").text = f"{length:.9g}"
        for tie in draw.choice(((), (), ("start",), ("stop",), ("stop", "start"))):
            SubElement(note, "tie", type=tie)
        if draw.random() < 0.9:
            SubElement(note, "voice").text = str(voice + 1)
        if draw.random() < 0.3:
            SubElement(note, "type").text = draw.choice(("whole", "quarter", "eighth", "64th"))
        if staves > 1 and draw.random() < 0.9:
            SubElement(note, "staff").text = str(draw.randint(1, staves))


def damaged(data: bytes, draw: Random) -> bytes:
    """The score with one to four things wrong that were not before, in whatever coat a score may come."""
    try:
        root = fromstring(data)
    except (ParseError, ValueError, LookupError):
        return made_score(draw)
    for _ in range(draw.choice((1, 1, 2, 4))):
        draw.choice(DAMAGES)(root, draw)
    return draw.choice(COATS)(tostring(root), draw)


def _element(root: Element, draw: Random) -> Element:
    return draw.choice(list(root.iter()))


def _other_text(root: Element, draw: Random) -> None:
    leaves = [element for element in root.iter() if not len(element)]
    draw.choice(leaves).text = draw.choice(HOSTILE)


def _other_attribute(root: Element, draw: Random) -> None:
    _element(root, draw).set(draw.choice(ATTRIBUTES), draw.choice(HOSTILE))


def _other_tag(root: Element, draw: Random) -> None:
    _element(root, draw).tag = draw.choice(TAGS)


def _without_one(root: Element, draw: Random) -> None:
    above = _element(root, draw)
    if len(above):
        above.remove(draw.choice(list(above)))


def _with_one_more(root: Element, draw: Random) -> None:
    above = _element(root, draw)
    new = Element(draw.choice(TAGS))
    new.text = draw.choice(HOSTILE)
    above.insert(draw.randint(0, len(above)), new)


def _with_one_from_elsewhere(root: Element, draw: Random) -> None:
    above, copied = _element(root, draw), deepcopy(_element(root, draw))
    for _ in range(draw.choice((1, 1, 2, 30))):
        above.insert(draw.randint(0, len(above)), copied)


def _in_another_order(root: Element, draw: Random) -> None:
    above = _element(root, draw)
    above[:] = draw.sample(list(above), len(above))


DAMAGES: tuple[Callable[[Element, Random], None], ...] = (
    _other_text,
    _other_text,
    _other_text,
    _other_attribute,
    _other_tag,
    _without_one,
    _with_one_more,
    _with_one_from_elsewhere,
    _in_another_order,
)


def _as_it_is(data: bytes, draw: Random) -> bytes:
    return data


def _with_a_doctype(data: bytes, draw: Random) -> bytes:
    return draw.choice(DOCTYPES).encode() + data


def _as_utf16(data: bytes, draw: Random) -> bytes:
    return data.decode("ascii").encode(draw.choice(("utf-16", "utf-16-le", "utf-16-be")))


def _under_a_wrong_name(data: bytes, draw: Random) -> bytes:
    encoding = draw.choice(("UTF-8", "UTF-16", "ISO-8859-1", "UTF-7", "x" * 40))
    return f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + data


def packed(data: bytes, draw: Random) -> bytes:
    """The score in an archive, as `.mxl` has it, or nearly so."""
    file = io.BytesIO()
    names = draw.choice(
        (("a.musicxml",), ("META-INF/container.xml", "a.xml"), ("../a.xml",), ("a.xml", "b.xml"), ("a",))
    )
    with zipfile.ZipFile(file, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


COATS: tuple[Callable[[bytes, Random], bytes], ...] = (
    *[_as_it_is] * 8,
    _with_a_doctype,
    _as_utf16,
    _under_a_wrong_name,
    packed,
)
