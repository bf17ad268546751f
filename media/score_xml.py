"""The XML of a score from anywhere: what is read of it, how much of it, and the first thing in it that no music has.

music21 builds an object for everything that a score shows, compares many of them with one another, and takes what no
music has for something else: a pitch above the highest for another, a note without one for a C. So it is shown only
what tells notes, times and keys, and no more of that than it is done with in a minute; and `fault` looks by itself.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement
from xml.parsers import expat

from schemas.errors import Unreadable
from schemas.naming import readable

_KEPT = {
    "": ("score-partwise",),
    "score-partwise": ("work", "movement-title", "identification", "part-list", "part"),
    "work": ("work-title",),
    "identification": ("encoding",),
    "encoding": ("software",),  # some of it writes rests as gaps, which music21 knows by its name
    "part-list": ("score-part",),
    "score-part": ("part-name", "score-instrument", "midi-instrument"),
    "score-instrument": ("instrument-name",),
    "midi-instrument": ("midi-program",),
    "part": ("measure",),
    "measure": ("attributes", "note", "backup", "forward"),
    "attributes": ("divisions", "key", "time", "staves", "clef", "transpose"),
    "key": ("fifths", "mode"),
    "time": ("beats", "beat-type"),
    "clef": (),
    "transpose": ("chromatic", "octave-change"),
    "note": ("pitch", "accidental", "rest", "unpitched", "chord", "grace", "duration", "tie", "voice", "staff")
    + ("type", "dot"),
    "pitch": ("step", "alter", "octave"),
    "backup": ("duration",),
    "forward": ("duration", "voice", "staff"),
}
"""Element -> those in it that are read."""
_SAYING = {"key": "fifths", "time": "beats"}
_ATTRIBUTES = ("id", "number", "type", "measure")
_DEEPEST = 64
_LONGEST_TEXT = 1000
_MOST = {
    "<part>": 1024,
    "<score-part>": 1024,
    "<note>": 40_000,
    "<key>": 5000,
    "<clef>": 5000,
    "<transpose>": 1000,
    "staves of one part": 16,
    "bars, each counted once a staff,": 20_000,
    # At each bar music21 looks through all before it, and eight times as long at one that is not full; it divides bars
    # into beats, and beats again.
    "pairs of bars, eight full ones for one,": 8_000_000,
    "pairs of beats": 200_000,
}
"""What takes a minute of one core and 500 MB; the longest of the 800 scores in music21 has half of it at most."""
_MOST_OTHERS = 200_000

_SPANS: dict[str, tuple[float, float]] = {
    "divisions": (0.001, 1_000_000),
    "duration": (0, 1_000_000_000),
    "alter": (-4, 4),
    "octave": (-2, 10),  # B sharp of -2 is the lowest pitch of MIDI
    "fifths": (-11, 11),
    "staves": (1, 16),
    "staff": (1, 16),
    "chromatic": (-60, 60),
    "octave-change": (-5, 5),
}
"""Element -> lowest and highest number in it."""
_NOT_WHOLE = ("divisions", "duration", "alter")
_WORDS: dict[str, Sequence[str]] = {"step": "A B C D E F G".split(), "beat-type": "1 2 4 8 16 32 64 128".split()}
_WAYS_TO_SOUND = ("pitch[step][octave]", "rest", "unpitched")
_BEATS = re.compile(r"[1-9][0-9]*(\s*\+\s*[1-9][0-9]*)*")
_TYPES = {"whole": 4, "half": 2, "quarter": 1, "eighth": 1 / 2, "16th": 1 / 4, "32nd": 1 / 8, "64th": 1 / 16}
_MOST_EXACT_DIVISIONS = 65_535
"""Of a quarter: music21 rounds finer fractions."""
_ROUNDING = 1 / 16
"""Quarters that a bar may lead back too far: programs round lengths to whole divisions."""


def score_root(text: str, name: str) -> Any:
    """The element `score-partwise` with what is read of it.

    Raises:
        Unreadable: `bad-musicxml`: no XML, another element, definitions, deeper or longer than a score can be; or
            `too-large`: more of something than music21 has an end of.
    """
    tree = _Tree(name)
    try:
        tree.parser.Parse(text, True)
    except expat.ExpatError as error:
        what = f"{expat.ErrorString(error.code)}, raised by the XML itself, line {error.lineno}, column {error.offset}"
        raise Unreadable("bad-musicxml", f"{name}: music21 cannot read it: {what}") from error
    return tree.top[0]


class _Tree:
    """The elements of `_KEPT`, made while the document is parsed: no others ever take memory."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.staves: set[str] = set()
        self.top = Element("")
        self.open: list[Any] = [self.top]  # None for an element that is left out
        # The text is decoded: whatever encoding it declares says nothing any more.
        self.parser = expat.ParserCreate("utf-8")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.parser.StartElementHandler = self.begin
        self.parser.CharacterDataHandler = self.text
        self.parser.EndElementHandler = self.end

    def doctype(self, tag: str, system: str | None, public: str | None, defines: int) -> None:
        """Refuses definitions: of attributes, say, that put a megabyte into every element that does not name them."""
        if defines:
            raise self._refused("bad-musicxml", "definitions, which no score needs. Take them out, from [ to ].")

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        """An element that is kept, or None, is open."""
        above, element = self.open[-1], None
        if above is not None and tag in _KEPT.get(above.tag, ()):
            self._count(f"<{tag}>")
            few = {name: attributes[name][:_LONGEST_TEXT] for name in _ATTRIBUTES if name in attributes}
            if tag in ("part", "measure"):
                few["line"] = str(self.parser.CurrentLineNumber)
            element = Element(tag, few)
        elif above is self.top:
            what = f"<{readable(tag[:40])}> instead of <score-partwise>. Export it as MusicXML, part by part."
            raise self._refused("bad-musicxml", what)
        self.open.append(element)
        if len(self.open) > _DEEPEST:
            raise self._refused("bad-musicxml", f"{_DEEPEST} elements inside one another, which no score has.")

    def text(self, data: str) -> None:
        """Adds to the text of an element that holds no others."""
        element = self.open[-1]
        if element is None or element.tag in _KEPT:
            return
        element.text = (element.text or "") + data
        if len(element.text) > _LONGEST_TEXT:
            what = f"more than {_LONGEST_TEXT} letters in a <{element.tag}>, which no score has."
            raise self._refused("bad-musicxml", what)

    def end(self, tag: str) -> None:
        """Puts a finished element into the one around it."""
        element = self.open.pop()
        if element is None:
            return
        if tag == "staff":
            self.staves.add(element.text or "")
        elif tag in ("key", "time", "clef", "transpose"):
            self.staves.add(element.get("number", ""))
        if tag == "time":
            self._count("pairs of beats", self._beats(element) ** 2)
        elif tag == "part":
            self._end_part(element)
        shaped = _shaped(element)
        if shaped is not None:
            self.open[-1].append(shaped)

    def _beats(self, time: Any) -> int:
        texts, kinds = [(each.text or "").strip() for each in time.iter("beats")], len(time.findall("beat-type"))
        if len(texts) != kinds:
            what = f"a <time> of {len(texts)} <beats> and {kinds} <beat-type>. Write one for each."
            raise self._refused("bad-musicxml", what)
        for text in texts:
            # music21 reads what digits there are: 1e3 as 13 beats, and 1e300 as 1300, for which it needs a minute.
            if not _BEATS.fullmatch(text):
                what = f"<beats> is {text[:40]!r}, not a number above 0 or a sum of such. Mend the score."
                raise self._refused("bad-musicxml", what)
        return sum(int(number) for text in texts for number in text.split("+"))

    def _end_part(self, part: Any) -> None:
        bars = len(part)
        self.counts["staves of one part"] = 0
        self._count("staves of one part", len(self.staves))
        self._count("bars, each counted once a staff,", bars * max(1, len(self.staves)))
        self._count("pairs of bars, eight full ones for one,", -(-bars * (bars + 7 * _count_unfilled(part)) // 8))
        self.staves.clear()
        if any((each.text or "").strip() != "1" for each in part.iter("staves")):
            # music21 puts what names no staff into every one, or nowhere if nothing names one.
            for note in part.iter("note"):
                if note.find("staff") is None:
                    SubElement(note, "staff").text = "1"

    def _count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number
        most = _MOST.get(what, _MOST_OTHERS)
        if self.counts[what] > most:
            raise self._refused("too-large", f"more than {most:,} {what} up to here. Give less of the score.")

    def _refused(self, reason: str, what: str) -> Unreadable:
        return Unreadable(reason, f"{self.name}: line {self.parser.CurrentLineNumber}: {what}")


def _count_unfilled(part: Any) -> int:
    """The bars of a part that music21 may not find as long as their time; all that are not plainly so count."""
    divisions, quarters, unfilled = 0, 4.0, 0
    for measure in part:
        heads, notes = measure.findall("attributes"), measure.findall("note")
        times = [time for head in heads for time in head.iter("time")]
        divided = next((each.text or "" for head in heads for each in head.iter("divisions")), str(divisions))
        divisions = int(divided) if divided.isdecimal() and len(divided) < len(str(_MOST_EXACT_DIVISIONS)) + 1 else 0
        quarters = _bar_quarters(times[0]) if len(times) == 1 else 0.0 if times else quarters
        plain = len(heads) + len(notes) == len(measure) and measure[: len(heads)] == heads and len(heads) < 2
        filled = sum(_plain_ticks(note, divisions) for note in notes)
        unfilled += not (plain and 0 < divisions <= _MOST_EXACT_DIVISIONS and 0 < filled == quarters * divisions)
    return unfilled


def _bar_quarters(time: Any) -> float:
    """The length of a bar in one number of one kind of beat, 0 for other times."""
    beats, kind = (time.findtext(tag, "") for tag in ("beats", "beat-type"))
    if len(time) != 2 or time.get("number") or not beats.isdecimal() or kind not in _WORDS["beat-type"]:
        return 0.0
    return 4 * int(beats[:9]) / int(kind)


def _plain_ticks(note: Any, divisions: int) -> float:
    """The duration of a note or rest that nothing else in it contradicts; no number for any other."""
    text, rest = note.findtext("duration", ""), note.find("rest")
    if not text.isdecimal() or any(note.find(tag) is not None for tag in ("chord", "voice", "staff")):
        return float("nan")
    kind, ticks = note.findtext("type"), int(text[:10])
    value = _TYPES.get(kind or "", 0) * (2 - 0.5 ** len(note.findall("dot"))) * divisions
    contradicts = rest is not None and (kind is not None and value != ticks or rest.get("measure") is not None)
    return float("nan") if contradicts else ticks


def _shaped(element: Any) -> Any:
    """The element as music21 reads it without stumbling, or None where nothing of it is needed."""
    if element.tag == "note" and element.find("grace") is not None:
        return None  # it has no length
    if element.tag == "note" and element.find("rest") is None:
        # Of a rest they say whether it is as long as its bar.
        element[:] = [each for each in element if each.tag not in ("type", "dot")]
    elif element.tag == "clef":
        SubElement(element, "sign").text = "G"  # only its staff is asked for
    elif element.tag == "transpose":
        return _in_semitones(element)
    elif element.tag in _SAYING and element.find(_SAYING[element.tag]) is None:
        return None  # a key of single signs, or no time at all: nothing here can say so
    return element


def _in_semitones(transpose: Any) -> Any:
    """A transposition told by its semitones alone: music21 reads no octaves without steps, which need not be there."""
    try:
        semitones = int(transpose.findtext("chromatic", 0)) + 12 * int(transpose.findtext("octave-change", 0))
    except ValueError:
        return transpose
    told = Element(transpose.tag, transpose.attrib)
    SubElement(told, "chromatic").text = str(semitones)
    return told


def fault(root: Any) -> str:
    """The first thing in a score that no music has, and what raises it; "" where there is none."""
    listed = [part.get("id") for part in root.iterfind("part-list/score-part")]
    for part in root.iterfind("part"):
        # music21 leaves such a part out. One without an id it takes for the first of the list.
        if part.get("id", listed[0] if listed else None) not in listed:
            return f"the list of parts does not name it, raised by {place(part)}"
        divisions = 0.0
        for measure in part:
            what, divisions = _measure_fault(measure, divisions)
            if what:
                return f"{what}, raised by {place(part, measure)}"
    return ""


def place(part: Any, measure: Any = None) -> str:
    """Where to look: part, measure, and the line on which the last of them begins."""
    name = f"part {readable(part.get('id', '')[:40]) or 'without an id'}"
    if measure is None:
        return f"{name}, line {part.get('line')}"
    return f"{name}, measure {readable(measure.get('number', '')[:20])}, line {measure.get('line')}"


def _measure_fault(measure: Any, divisions: float) -> tuple[str, float]:
    """What is wrong with a measure, "" if nothing, and the divisions of a quarter that the next one begins with."""
    at, before = 0.0, None
    for element in measure:
        what = next(filter(None, map(_value_fault, element.iter())), "")
        if what:
            return what, divisions
        if element.tag == "attributes":
            divisions = float(element.findtext("divisions", divisions))
            continue
        length = element.findtext("duration")
        if length is None:
            return f"a <{element.tag}> has no <duration>", divisions
        if not divisions:
            return f"a <{element.tag}> stands before any <divisions>, which say how long it is", divisions
        if element.tag == "note" and not any(element.find(way) is not None for way in _WAYS_TO_SOUND):
            return "a <note> is neither a rest nor a pitch of step and octave", divisions
        if element.find("chord") is None:
            at += float(length) / (-divisions if element.tag == "backup" else divisions)
        elif element.find("rest") is not None or before is not None and before.find("rest") is not None:
            return "a <rest> is part of a <chord>", divisions
        before = element
        if at < -_ROUNDING:
            return "a <backup> leads to before the measure begins", divisions
    return "", divisions


def _value_fault(element: Any) -> str:
    text = (element.text or "").strip()
    if element.tag in _SPANS:
        low, high = _SPANS[element.tag]
        kind, read = ("number", float) if element.tag in _NOT_WHOLE else ("whole number", int)
        try:
            fits = low <= read(text) <= high
        except ValueError:
            fits = False
        return "" if fits else f"<{element.tag}> is {text[:40]!r}, not a {kind} from {low:,} to {high:,}"
    words = _WORDS.get(element.tag, (text,))
    return "" if text in words else f"<{element.tag}> is {text[:40]!r}, none of {', '.join(words)}"
