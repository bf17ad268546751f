"""Attacks the road of a MIDI file: read, measured, cleaned, and where it is accepted, encoded and decoded."""

from collections.abc import Callable, Iterator
from random import Random

from beam_pipelines.clean import clean
from beam_pipelines.limits import measured
from media.midi import read_midi, write_midi
from media.midi_chunks import read_layout
from media.midi_events import Damage, _Walk
from schemas.errors import Unreadable
from schemas.feature import check_record
from schemas.music import Controls, InvalidMusic, Notes, Piece, TempoMap, validate
from schemas.representations.events import Events
from tests.conftest import data_folder
from tests.hostile.fuzz.midi_grammar import damaged, made_file

LONGEST = 1 << 14
EVENTS = Events(window=256)
MOST_SECONDS = 21_600
MOST_NOTES = 20_000


def attack(data: bytes) -> None:
    """Whatever the bytes are, they become a piece that can be used, or are refused with a reason."""
    begun = _notes_begun(data)
    try:
        piece = read_midi(data, "fuzz")
    except Unreadable as error:
        assert error.reason and "fuzz" in str(error)
        assert error.offset is None or 0 <= error.offset <= len(data), f"offset {error.offset} of {len(data)} bytes"
        return
    try:
        validate(piece)
    except InvalidMusic as error:
        raise AssertionError(f"read_midi let pass what validate refuses: {error}") from error
    assert len(piece.notes) <= begun, f"{len(piece.notes)} notes are read, {begun} begin in the file"
    measures = measured(piece)
    if clean(piece, (0, 127), EVENTS) or measures.seconds > MOST_SECONDS or measures.notes > MOST_NOTES:
        return
    records = list(EVENTS.encode(piece))
    for record in records:
        check_record(record, EVENTS.features())
    decoded = EVENTS.decode(records)
    validate(decoded)
    assert 0 < len(decoded.notes) <= measures.notes


def _notes_begun(data: bytes) -> int:
    """How many notes begin in the tracks; taken singly and as arrays, their events must tell the same."""
    try:
        tracks = read_layout(data, "fuzz").tracks
    except Unreadable:
        return 0
    begun = 0
    for start, stop in tracks:
        singly, at_once = (_walked(data, start, stop, patience) for patience in (1 << 40, 1))
        assert singly == at_once, f"the track at byte {start}: {singly} singly, {at_once} as arrays"
        begun += singly[0]
    return begun


def _walked(data: bytes, start: int, stop: int, patience: int) -> tuple[int, ...]:
    """Notes, last tick, end and running status of a track; `patience` events are taken singly before many at once."""
    walk = _Walk(data, start, stop)
    walk._patience = patience
    try:
        walk.run()
    except Damage as error:
        return walk.note_ons, error.offset
    return walk.note_ons, walk.tick, walk.at, walk.ended, walk.running


def seeds() -> Iterator[bytes]:
    """Small sound files, some from the grammar, and the hostile ones that lie beside the checkout."""
    notes = Notes.of([0, 0, 240, 480], [240, 480, 480, 700], [60, 64, 64, 67], [80, 1, 127, 64], track=[0, 0, 1, 1])
    pedal = Controls.of([0, 100, 400], [64, 64, 64], [127, 0, 90])
    yield write_midi(Piece("seed", notes, pedal, TempoMap.constant(480), ((0, 3, 4),), ((0, -3, True),)))
    yield from (made for number in range(40) if len(made := made_file(Random(number))) <= LONGEST)
    for path in sorted(data_folder().glob("hostile/**/*.mid*")):
        if path.stat().st_size <= LONGEST:
            yield path.read_bytes()


def mutated(data: bytes, draw: Random, plain: Callable[[bytes], bytes]) -> bytes:
    """The next input to try: by the grammar, or (`plain`) by the fuzzer's own means."""
    chance = draw.random()
    if chance < 0.3 and data:
        return plain(data)
    return made_file(draw) if chance < 0.4 else damaged(data, draw)
