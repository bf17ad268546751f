"""Sketches: copies agree on them, different pieces do not, and asking costs the same however many there are."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.corpora.maestro import Maestro
from beam_pipelines.fingerprints import SKETCH_SIZE, sketch, sketch_hashes
from beam_pipelines.near_copies import MOST_HOLDERS, Index, agree, alike, worth_a_look
from beam_pipelines.split import merged_groups, near_leaks
from media.midi import read_midi, write_midi
from schemas.music import Notes, Piece, transpose
from schemas.representations.events import Events
from tests.beam_pipelines.made_copies import at_resolution, begun_later, copied, with_velocities
from tests.beam_pipelines.tiny_dataset import made_piece

EVENTS = Events()


def decoded(piece: Piece) -> Piece:
    return EVENTS.decode(EVENTS.encode(piece))


def shared(one: Piece, other: Piece) -> tuple[int, int]:
    """Hashes in common, and hashes of the smaller sketch."""
    hashes = [set(sketch_hashes(sketch(piece)).tolist()) for piece in (one, other)]
    return len(hashes[0] & hashes[1]), min(map(len, hashes))


@given(st.integers(0, 10_000), st.integers(8, 2000), st.integers(-40, 37), st.floats(0.5, 2.0), st.floats(0, 10))
def test_key_tempo_loudness_and_a_later_beginning_leave_a_sketch_as_it_is(seed, notes, semitones, factor, later):
    piece = made_piece(seed, notes)
    assert sketch(copied(piece, semitones, factor, later, velocities=seed)) == sketch(piece) != ""


@given(st.integers(0, 10_000), st.integers(40, 400), st.floats(0.5, 2.0), st.sampled_from([96, 220, 480]))
def test_a_copy_saved_at_another_resolution_agrees_with_the_file_it_was_made_of(seed, notes, factor, ticks):
    piece = made_piece(seed, notes)
    file = write_midi(at_resolution(copied(piece, 2, factor, 2.0, seed), ticks))
    assert agree(*shared(piece, read_midi(file, "copy")))


def test_of_copies_decoded_from_shards_all_but_a_few_agree_though_ten_notes_sound_each_second():
    draw = np.random.Generator(np.random.PCG64(1))
    found = 0
    for seed in range(200):
        piece = made_piece(seed, notes=100)
        copy = copied(piece, int(draw.integers(-12, 13)), float(draw.uniform(0.5, 2)), float(draw.uniform(0, 4)), seed)
        found += agree(*shared(decoded(piece), decoded(copy)))
    assert found >= 199


@given(st.integers(0, 10_000), st.integers(24, 2000))
def test_two_pieces_do_not_agree(seed, notes):
    assert not agree(*shared(made_piece(seed, notes), made_piece(seed + 1, notes)))


def by_hand(pitches: list[int], size: int) -> list[int]:
    """Every bag of `size` pitches hashed as the docstrings say, in plain Python."""
    hashes = []
    for first in range(len(pitches) - size + 1):
        bag = pitches[first : first + size]
        word = sum(pow(0x9E3779B97F4A7C15, pitch - min(bag), 2**64) for pitch in bag) % 2**64
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            word = ((word ^ (word >> shift)) * factor) % 2**64
        hashes.append(word ^ (word >> 31))
    return hashes


@pytest.mark.parametrize(("notes", "sizes"), [(8, [4, 8]), (15, [7, 15]), (32, [10, 32]), (33, [10]), (1000, [10])])
def test_a_sketch_is_the_smallest_hashes_of_bags_of_notes_as_text(notes, sizes):
    piece = made_piece(3, notes)
    hashes = sorted({word for size in sizes for word in by_hand(piece.notes.pitch.tolist(), size)})
    assert sketch(piece) == "".join(f"{word >> 16:012x}" for word in hashes[:SKETCH_SIZE])
    assert sketch_hashes(sketch(piece)).tolist() == [word >> 16 for word in hashes[:SKETCH_SIZE]]


def test_the_smallest_hashes_are_found_whether_a_piece_is_long_or_repeats():
    once = made_piece(3, notes=300).notes.pitch
    start = np.arange(20 * len(once)) * 100
    again = Piece("again", Notes.of(start, start + 50, np.tile(once, 20), 64))
    first = Piece("once", Notes.of(start[: len(once)], start[: len(once)] + 50, once, 64))
    assert shared(first, again)[0] >= SKETCH_SIZE - 3


def test_pieces_too_short_and_pieces_of_drums_have_no_sketch():
    piece = made_piece(3, notes=40)
    assert sketch(made_piece(3, notes=7)) == sketch(Piece("nothing", Notes.empty())) == ""
    assert sketch(replace(piece, notes=replace(piece.notes, drum=np.ones(40, bool)))) == ""
    assert len(sketch_hashes("")) == 0


def test_drums_do_not_change_the_sketch_of_what_plays_with_them():
    piece = made_piece(3, notes=40)
    notes, beat = piece.notes, np.arange(0, 4000, 50)
    columns = [
        np.concatenate(pair)
        for pair in (
            (notes.start, beat),
            (notes.end, beat + 20),
            (notes.pitch, np.full(len(beat), 36)),
            (notes.drum, np.ones(len(beat), bool)),
        )
    ]
    both = replace(piece, notes=Notes.of(*columns[:3], 64, drum=columns[3]))
    assert sketch(both) == sketch(piece)


def written(*hashes: int) -> str:
    return "".join(f"{value:012x}" for value in hashes)


def test_the_pieces_of_a_hash_that_all_share_are_remembered_up_to_a_limit():
    sketches = [written(1, 2, 3, 1000 + number) for number in range(10 * MOST_HOLDERS)]
    index = Index([*sketches, written(1005)])
    for number, text in enumerate(sketches):
        index.add(number, text)
    assert len(index.sharing(written(1, 2, 3), worth_a_look)) == MOST_HOLDERS
    found = index.sharing(written(3, 1005), worth_a_look)
    assert found == [(5, 2, 2), *((number, 1, 2) for number in range(MOST_HOLDERS) if number != 5)]


def test_hashes_that_one_piece_alone_holds_count_for_the_size_of_its_sketch():
    sketches = [written(1, 2, 3, *range(10, 20)), written(1, 2, 3, *range(20, 29))]
    asked = []
    index = Index(sketches)
    index.add(0, sketches[0])
    index.sharing(sketches[1], lambda *found: asked.append(found) or True)
    assert asked == [(3, 12)]


@pytest.mark.parametrize(("shared", "smaller", "told"), [(2, 4, False), (3, 12, True), (3, 13, False), (8, 32, True)])
def test_a_quarter_of_the_smaller_sketch_and_three_hashes_are_one_composition(shared, smaller, told):
    assert agree(shared, smaller) is told


def test_hundreds_of_copies_are_joined_without_comparing_each_with_each():
    text = sketch(made_piece(3))
    pairs = list(alike([text] * 500))
    assert Counter(later for _, later in pairs).most_common(1)[0][1] == MOST_HOLDERS
    groups = merged_groups((f"group {number:03d}", str(number), text) for number in range(500))
    assert set(groups.values()) == {"group 000"}


def test_a_near_leak_is_told_at_the_split_that_gives_way_with_its_original_and_its_change():
    piece = made_piece(1)
    pieces = {
        "a": ("train", copied(piece, 2, 1.5)),
        "b": ("test", piece),
        "c": ("validation", begun_later(piece, 2.0)),
        "d": ("test", with_velocities(piece, 1)),
        "e": ("train", made_piece(2)),
    }
    listed = [(name, split, sketch(of)) for name, (split, of) in pieces.items()]
    found = dict(near_leaks(listed, lambda name: pieces[name][1]))
    assert {name: leak.keeper for name, leak in found.items()} == {"c": "b", "a": "b"}
    assert (found["a"].copy.semitones, found["a"].copy.factor) == (2, pytest.approx(1.5))
    assert found["c"].copy.later == pytest.approx(2.0)


def test_a_piece_that_can_no_longer_be_read_is_no_leak():
    text = sketch(made_piece(1))
    assert list(near_leaks([("a", "train", text), ("b", "test", text)], lambda name: None)) == []


def test_sketches_that_agree_are_no_leak_where_the_notes_do_not_meet():
    piece = made_piece(1, notes=200)
    slower = np.cumsum(np.linspace(1, 3, 200))
    other = replace(piece, notes=Notes.of(slower * 100, slower * 100 + 50, piece.notes.pitch, 64))
    pieces = {"a": other, "b": piece}
    assert agree(*shared(other, piece))
    listed = [("a", "train", sketch(other)), ("b", "test", sketch(piece))]
    assert list(near_leaks(listed, pieces.__getitem__)) == []


@pytest.mark.slow
def test_real_performances_and_their_copies_agree_and_strangers_do_not(sample_data):
    root = str(sample_data("maestro/maestro-v3.0.0"))
    pieces = [Maestro().parse(item, root) for item in list(Maestro().items(root))[::12]]
    for seed, piece in enumerate(pieces):
        low, high = piece.pitch_span()
        copy = copied(piece, [21 - low, 108 - high][seed % 2], 0.5 + 1.5 * seed / len(pieces), 2.0, seed)
        assert agree(*shared(piece, read_midi(write_midi(at_resolution(copy, 220)), "copy")))
        assert agree(*shared(decoded(piece), decoded(copy)))
        assert not agree(*shared(piece, transpose(pieces[seed - 1], 0)))
