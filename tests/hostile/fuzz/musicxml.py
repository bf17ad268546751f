"""Attacks the MusicXML reader: what it accepts must be music, and the same music once it is written and read again."""

from collections.abc import Callable, Iterator
from itertools import chain
from math import ceil, floor
from random import Random
from typing import Any

from media.musicxml import MOST_QUARTERS, TICKS_PER_QUARTER, read_musicxml, score_text, write_musicxml
from media.score_xml import score_root
from schemas.errors import Unreadable
from schemas.grid import voices_fault
from schemas.music import InvalidMusic, Notes, Piece, validate
from tests.hostile.fuzz.musicxml_grammar import damaged, made_score, packed

LONGEST = 1 << 14
REASONS = {
    "bad-mxl", "bad-musicxml", "too-large", "too-long", "missing-file", "damaged-archive", "archive-link",
    "archive-encrypted", "archive-compression", "archive-duplicate", "archive-ratio",
}  # fmt: skip
LONGEST_MESSAGE = 1000
SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
MOST_BARS = 100
"""Bars that are written and read again: every one of them takes time."""


def attack(data: bytes) -> None:
    """Whatever the bytes are, they become a piece that can be used, or are refused with a reason and a place."""
    try:
        piece = read_musicxml(data, "fuzz")
    except Unreadable as error:
        message = str(error)
        assert error.reason in REASONS and "fuzz" in message, f"{error.reason}: {message}"
        assert message.isprintable() and len(message) <= LONGEST_MESSAGE, f"{len(message)} letters: {message!r:.200}"
        return
    try:
        validate(piece)
    except InvalidMusic as error:
        raise AssertionError(f"read_musicxml let pass what validate refuses: {error}") from error
    _attack_notes(piece, score_root(score_text(data, "fuzz"), "fuzz"))
    assert piece.notes.end.max(initial=0) <= MOST_QUARTERS * TICKS_PER_QUARTER
    assert all(tick >= 0 and top > 0 and bottom > 0 for tick, top, bottom in piece.time_signatures)
    assert all(
        tick >= 0 and abs(sharps) < 12 and minor in (False, True) for tick, sharps, minor in piece.key_signatures
    )
    if not voices_fault(piece, complete=False):
        _attack_writing(piece)


def _attack_notes(piece: Piece, root: Any) -> None:
    """No note is read twice, and none that is not written."""
    # One that lacks either is refused where it is a note's; elsewhere it says nothing.
    pitches = [pitch for pitch in root.iter("pitch") if pitch.findtext("step") and pitch.findtext("octave")]
    assert len(piece.notes) <= len(pitches), f"{len(piece.notes)} notes are read, {len(pitches)} stand in the score"
    if next(chain(root.iter("transpose"), root.iter("accidental")), None) is None:
        written = {number for pitch in pitches for number in _numbers(pitch)}
        assert set(piece.notes.pitch.tolist()) <= written, f"of {written} is made {set(piece.notes.pitch.tolist())}"


def _numbers(pitch: Any) -> tuple[int, int]:
    """The MIDI pitches on both sides of one that may lie between them."""
    semitones = 12 * int(pitch.findtext("octave")) + 12 + float(pitch.findtext("alter", 0))
    exact = SEMITONES[pitch.findtext("step").strip()] + semitones
    return floor(exact), ceil(exact)


def _attack_writing(piece: Piece) -> None:
    try:
        data = write_musicxml(piece)
    except InvalidMusic as error:
        assert error.reason == "too-long"
        return
    if data.count(b"<measure") > MOST_BARS:
        return
    again = read_musicxml(data, "again")
    assert _listed(again) == _listed(piece), "what is written is not what is read back"
    assert again.time_signatures[0][0] == again.key_signatures[0][0] == 0


def _listed(piece: Piece) -> list[tuple[int, ...]]:
    columns = (getattr(piece.notes, name).tolist() for name in ("track", "start", "end", "pitch"))
    return sorted(zip(*columns, strict=True))


def seeds() -> Iterator[bytes]:
    """Scores from the grammar, one of four voices as we write it, and one in an archive."""
    notes = Notes.of([0, 0, 480, 720], [480, 960, 720, 2400], [72, 48, 74, 76], 80, track=[0, 3, 0, 0])
    score = write_musicxml(Piece("seed", notes, time_signatures=((0, 3, 4),), key_signatures=((0, -3, True),)))
    yield score
    yield packed(score, Random(0))
    yield from (made for number in range(40) if len(made := made_score(Random(number))) <= LONGEST)


def mutated(data: bytes, draw: Random, plain: Callable[[bytes], bytes]) -> bytes:
    """The next input to try: by the grammar, or (`plain`) by the fuzzer's own means."""
    chance = draw.random()
    if chance < 0.2 and data:
        return plain(data)
    return made_score(draw) if chance < 0.3 else damaged(data, draw)
