"""MusicXML: scores to music, part by part, and music in four voices to a score.

Reading needs music21, which is shown what `media.score_xml` keeps of a score. Ties are joined, repeats are played once,
fermatas are not lengthened, grace notes (which have no length of their own) are left out, and tempo marks are not
followed: in scores they are playback settings of whoever typed them. Time is exact: 480 ticks a quarter. Writing needs
nothing; what it writes music21 reads with equal notes.
"""

import re
import traceback
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape
from itertools import islice
from typing import Any, NamedTuple

from media.archive import archive_of
from media.bars import Bar, bars_of
from media.score_xml import fault, place, score_root
from schemas.errors import InputError, MissingExtra, StrettoError, Unreadable, place_of
from schemas.grid import VOICES, voices_fault
from schemas.music import BAR_TICKS, PART_NAMES, TITLE, InvalidMusic, Notes, Piece, TempoMap
from schemas.naming import readable

TICKS_PER_QUARTER = 480
LARGEST_SCORE = 8 << 20
"""Bytes; the longest chorale has 1.4 MB. music21 needs some fifty times the size of a score in memory."""
MOST_QUARTERS = 100_000
"""Sixteen hours at 100 quarters a minute. A duration may claim any length, and whoever encodes it pays for that."""
VELOCITY = 80
CHOIR = 52
_ZIP = b"PK\x03\x04"
# Scores define none. One that does could grow to gigabytes out of some lines, or ask for other files.
_ENTITY = "<!ENTITY"
_LONGEST_REASON = 300
_SHARE = 64
"""Lengths are told in 64ths of a quarter note, where they can be."""
_TYPES = {256: "whole", 128: "half", 64: "quarter", 32: "eighth", 16: "16th", 8: "32nd", 4: "64th"}
_CLEFS = ("<sign>G</sign><line>2</line>",) * 2 + (
    "<sign>G</sign><line>2</line><clef-octave-change>-1</clef-octave-change>",
    "<sign>F</sign><line>4</line>",
)
_STEPS = "FCGDAEB"


def score_text(data: bytes, name: str) -> str:
    """The XML of a score, compressed or not. Raises Unreadable: `bad-mxl` or `bad-musicxml`."""
    if data[:4] == _ZIP or name.lower().endswith(".mxl"):
        data = _unpacked(data, name)
    if len(data) > LARGEST_SCORE:
        raise Unreadable("too-large", f"{name}: {len(data)} bytes; scores over {LARGEST_SCORE} are not read")
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable("bad-musicxml", f"{name}: is neither UTF-8 nor UTF-16: {error}") from error
    if "\0" in text:
        # Between letters it makes the parser read UTF-16 all the same, and hides what is looked for below.
        raise Unreadable("bad-musicxml", f"{name}: is UTF-16 without a byte order mark, or no text. Save it as UTF-8.")
    if _ENTITY in text:
        raise Unreadable("bad-musicxml", f"{name}: defines entities, which no score needs")
    return text


def count_parts(text: str) -> int:
    """How many parts a score says it has."""
    return len(re.findall(r"<score-part\b", text))


def read_musicxml(data: bytes, name: str, tempo: float = 100.0) -> Piece:
    """The music of a score, its parts as tracks in their order; `.musicxml` or `.mxl`.

    Args:
        data: the bytes of the file.
        name: of the piece, for messages.
        tempo: quarter notes a minute.

    Raises:
        Unreadable: `bad-mxl`, `bad-musicxml`, `too-large`, `too-long`, or a reason of `media.archive.Archive.read`.
        MissingExtra: music21 is not installed.
    """
    return piece_of_text(score_text(data, name), name, tempo)


def piece_of_text(text: str, name: str, tempo: float = 100.0) -> Piece:
    """The music of a score's XML, as `read_musicxml` reads it."""
    importer = _importer()
    root = score_root(text, name)
    title = _taken_title(root)
    wrong = fault(root)
    if wrong:
        raise Unreadable("bad-musicxml", f"{name}: music21 cannot read it: {wrong}. Mend it, or export it again.")
    try:
        with warnings.catch_warnings(action="ignore"):
            importer.xmlRootToScore(root, importer.stream)
            return _piece(importer.stream, name, tempo, title)
    except (StrettoError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  music21 raises what it happens to stumble on; that must cost one score
        what = readable(f"{type(error).__name__}: {error}"[:_LONGEST_REASON])
        what = f"{_place_in_score(error)}: {what}, raised by {place_of(error)}"
        raise Unreadable("bad-musicxml", f"{name}: music21 cannot read it: {what}") from error


def _taken_title(root: Any) -> str:
    """What the score is called; music21 need not read it."""
    title = root.findtext("movement-title") or root.findtext("work/work-title") or ""
    root[:] = [each for each in root if each.tag not in ("movement-title", "work")]
    return " ".join(title.split())[:_LONGEST_REASON]


def _unpacked(data: bytes, name: str) -> bytes:
    try:
        archive = archive_of(data, name)
    except InputError as error:
        raise Unreadable("bad-mxl", f"{name}: no compressed MusicXML: {error}") from error
    scores = [path for path in archive.members if path.endswith(("xml", ".musicxml")) and path[:8] != "META-INF"]
    if not scores:
        raise Unreadable("bad-mxl", f"{name}: no score in the archive")
    return archive.read(scores[0], LARGEST_SCORE)


def _importer() -> Any:
    try:
        from music21.musicxml.xmlToM21 import MusicXMLImporter
    except ModuleNotFoundError as error:
        raise MissingExtra("music21", "music21") from error
    return MusicXMLImporter()


def _place_in_score(error: BaseException) -> str:
    """Where music21 stumbled, told from what its functions held."""
    held: dict[str, Any] = {}
    for frame, _ in traceback.walk_tb(error.__traceback__):
        held |= frame.f_locals
    return place(held["mxPart"], held.get("mxMeasure")) if "mxPart" in held else "the score"


def _piece(score: Any, name: str, tempo: float, title: str) -> Piece:
    parts = list(score.parts)
    rows = [(*note, track) for track, part in enumerate(parts) for note in _part_notes(part, name)]
    start, end, pitch, track = zip(*rows, strict=True) if rows else ((), (), (), ())
    first = parts[0].flatten() if parts else score.flatten()
    times = ((_ticks(item.offset), item.numerator, item.denominator) for item in first["TimeSignature"])
    keys = (
        (_ticks(item.offset), item.sharps, getattr(item, "mode", None) == "minor") for item in first["KeySignature"]
    )
    return Piece(
        name,
        Notes.of(start, end, pitch, VELOCITY, CHOIR, track),
        tempo=TempoMap.constant(TICKS_PER_QUARTER, 60e6 / tempo),
        time_signatures=tuple(times),
        key_signatures=tuple(keys),
        labels={
            PART_NAMES: tuple(str(part.partName or "") for part in parts),
            BAR_TICKS: _bar_ticks(parts[0]) if parts else (),
            **({TITLE: title} if title else {}),
        },
    )


def _bar_ticks(part: Any) -> tuple[int, ...]:
    bars = list(part.getElementsByClass("Measure"))
    ends = [bars[-1].offset + bars[-1].highestTime] if bars else []
    return tuple(sorted({_ticks(offset) for offset in [*(bar.offset for bar in bars), *ends]}))


def _part_notes(part: Any, name: str) -> list[tuple[int, int, int]]:
    """Start tick, end tick and sounding pitch of every note of a part, ties joined; a chord is notes at one start."""
    if any(one.transposition for one in part.recurse().getElementsByClass("Instrument")):
        part = part.toSoundingPitch()
    joined: list[tuple[int, int, int]] = []
    last: dict[int, int] = {}
    for sound in part.flatten().notes:
        start, end = _ticks(sound.offset), _ticks(sound.offset + sound.duration.quarterLength)
        if not 0 <= start <= end <= MOST_QUARTERS * TICKS_PER_QUARTER:
            what = f"a note ends at quarter {end // TICKS_PER_QUARTER:,}; scores are read up to {MOST_QUARTERS:,}"
            raise Unreadable("too-long", f"{name}: {_bar_of(sound, part)}: {what}. Mend its <duration>, or give less.")
        if end <= start:
            continue
        for note in getattr(sound, "notes", (sound,)):
            continues = note.tie is not None and note.tie.type in ("stop", "continue")
            # music21 moves what is too high or low by octaves, until it is a pitch of MIDI.
            for number in (each.ps for each in note.pitches if not -0.5 <= each.ps < 127.5):
                what = f"{_bar_of(sound, part)}: the pitch {number:g} is outside 0 to 127"
                raise Unreadable("bad-musicxml", f"{name}: {what}. Mend its octave, or the transposition of its part.")
            for pitch in sorted(each.midi for each in note.pitches):
                before = joined[last[pitch]] if continues and pitch in last else None
                if before is not None and before[1] == start:
                    joined[last[pitch]] = (before[0], end, pitch)
                else:
                    last[pitch] = len(joined)
                    joined.append((start, end, pitch))
    return joined


def _bar_of(sound: Any, part: Any) -> str:
    return f"part {str(part.partName)[:40]!r}, measure {sound.measureNumber}"


def _ticks(quarters: Any) -> int:
    return round(quarters * TICKS_PER_QUARTER)


# === Writing ===


class _Sound(NamedTuple):
    """A note or a rest (pitch None) inside one bar, and whether it is tied to the one before and after."""

    ticks: int
    pitch: int | None = None
    from_before: bool = False
    goes_on: bool = False


def write_musicxml(piece: Piece) -> bytes:
    """A score of four parts, soprano to bass: its bars, ties over bar lines, signatures and first tempo of the piece.

    A piece without a time signature is in 4/4, without a key signature in C. A length that no note value has is written
    without one.

    Raises:
        InvalidMusic: `not-four-voices`, or `too-long`: more than `read_musicxml` reads back.
    """
    fault = voices_fault(piece, complete=False)
    if fault:
        raise InvalidMusic("not-four-voices", f"{piece.name}: {fault}")
    bars = list(bars_of(piece))
    names = (f"<part-name>{name.title()}</part-name>" for name in VOICES)
    listed = (f'<score-part id="P{voice}">{name}</score-part>' for voice, name in enumerate(names))
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<score-partwise version="4.0">',
        f"<work><work-title>{escape(readable(piece.name))}</work-title></work>",
        f"<part-list>{''.join(listed)}</part-list>",
        *(_part(piece, voice, bars) for voice in range(len(VOICES))),
        "</score-partwise>\n",
    ]
    text = "\n".join(lines).encode("utf-8", "backslashreplace").decode()
    _check_readable(text, piece.name)
    return text.encode()


def _check_readable(text: str, name: str) -> None:
    if len(text.encode()) > LARGEST_SCORE:
        raise InvalidMusic("too-long", f"{name}: a score of {len(text):,} bytes; {LARGEST_SCORE:,} are read back")
    try:
        score_root(text, name)
    except Unreadable as error:
        raise InvalidMusic("too-long", str(error)) from error


def _part(piece: Piece, voice: int, bars: Sequence[Bar]) -> str:
    chosen = piece.notes.select(piece.notes.track == voice)
    notes = list(zip(chosen.start.tolist(), chosen.end.tolist(), chosen.pitch.tolist(), strict=True))
    keys = [(tick, max(-7, min(7, sharps)), minor) for tick, sharps, minor in sorted(piece.key_signatures)]
    sharps, lines, place = 0, [f'<part id="P{voice}">'], 0
    for bar in bars:
        written = [key for key in keys if bar.start <= key[0] < bar.end][-1:]
        sharps = written[0][1] if written else sharps
        while place < len(notes) and notes[place][1] <= bar.start:
            place += 1
        implicit = ' implicit="yes"' if bar.implicit else ""
        lines.append(f'<measure number="{bar.number}"{implicit}>{_attributes(piece, voice, bar, written)}')
        for sound in _sounds(notes, place, bar):
            lines += [_note(piece, part, sharps) for part in _notated(sound, piece.tempo.ticks_per_quarter)]
        lines.append("</measure>")
    return "\n".join([*lines, "</part>"])


def _sounds(notes: Sequence[tuple[int, int, int]], first: int, bar: Bar) -> Iterator[_Sound]:
    """Notes and rests of one voice that fill a bar; `first` is the first note that ends inside it or later."""
    at = bar.start
    for start, end, pitch in islice(notes, first, None):
        if start >= bar.end:
            break
        if end <= start:
            continue
        if start > at:
            yield _Sound(start - at)
        at = min(end, bar.end)
        yield _Sound(at - max(start, bar.start), pitch, start < bar.start, end > bar.end)
    if at == bar.start and bar.ticks < bar.full:
        # A whole rest alone would be read as one of the full bar.
        yield _Sound(bar.ticks // 2)
        at += bar.ticks // 2
    if at < bar.end:
        yield _Sound(bar.end - at)


def _notated(sound: _Sound, per_quarter: int) -> Iterator[_Sound]:
    """The sound in lengths that a note has, longest first, tied to one another; as it is where these do not make it."""
    left, lengths = sound.ticks, []
    for ticks in _values(per_quarter):
        while left >= ticks:
            lengths.append(ticks)
            left -= ticks
    lengths = [sound.ticks] if left else lengths
    for number, ticks in enumerate(lengths):
        tied = sound.pitch is not None
        before = tied and (number > 0 or sound.from_before)
        yield _Sound(ticks, sound.pitch, before, tied and (number + 1 < len(lengths) or sound.goes_on))


@lru_cache(maxsize=16)
def _values(per_quarter: int) -> dict[int, str]:
    """Ticks -> what is written for it, longest first, dotted ones included."""
    found = {}
    for share, name in _TYPES.items():
        for halves, dot in ((3, "<dot/>"), (2, "")):
            ticks, rest = divmod(per_quarter * share * halves, 2 * _SHARE)
            if not rest:
                found[ticks] = f"<type>{name}</type>{dot}"
    return found


def _attributes(piece: Piece, voice: int, bar: Bar, keys: Sequence[tuple[int, int, bool]]) -> str:
    first = bar.start == 0
    parts = [f"<divisions>{piece.tempo.ticks_per_quarter}</divisions>"] if first else []
    if keys or first:
        _, sharps, minor = keys[0] if keys else (0, 0, False)
        parts.append(f"<key><fifths>{sharps}</fifths><mode>{'minor' if minor else 'major'}</mode></key>")
    if bar.changes:
        top, bottom = bar.metre
        parts.append(f"<time><beats>{top}</beats><beat-type>{bottom}</beat-type></time>")
    if first:
        parts.append(f"<clef>{_CLEFS[voice]}</clef>")
    text = f"<attributes>{''.join(parts)}</attributes>" if parts else ""
    return text + (_tempo(piece) if first and voice == 0 else "")


def _tempo(piece: Piece) -> str:
    quarters = f"{60e6 / (float(piece.tempo.microseconds_per_quarter[0]) * piece.tempo.stretch):.10g}"
    mark = f"<metronome><beat-unit>quarter</beat-unit><per-minute>{quarters}</per-minute></metronome>"
    return f'<direction><direction-type>{mark}</direction-type><sound tempo="{quarters}"/></direction>'


def _note(piece: Piece, sound: _Sound, sharps: int) -> str:
    ties = [kind for kind, there in (("stop", sound.from_before), ("start", sound.goes_on)) if there]
    body = "<rest/>" if sound.pitch is None else _spelt(sound.pitch, sharps)
    tied = "".join(f'<tied type="{kind}"/>' for kind in ties)
    return (
        f"<note>{body}<duration>{sound.ticks}</duration>"
        + "".join(f'<tie type="{kind}"/>' for kind in ties)
        + _values(piece.tempo.ticks_per_quarter).get(sound.ticks, "")
        + (f"<notations>{tied}</notations>" if tied else "")
        + "</note>"
    )


def _spelt(pitch: int, sharps: int) -> str:
    """A MIDI pitch spelt as its key has it: the twelve fifths from the minor third to the raised fifth of its tonic."""
    fifths = next(place for place in range(sharps - 3, sharps + 9) if (place * 7 - pitch) % 12 == 0)
    alter, step = divmod(fifths + 1, 7)
    altered = f"<alter>{alter}</alter>" if alter else ""
    return f"<pitch><step>{_STEPS[step]}</step>{altered}<octave>{(pitch - alter) // 12 - 1}</octave></pitch>"
