"""Shards that are not what was written: refused by name, or passed over with every example else at its place."""

import os
import threading
from dataclasses import replace

import numpy as np
import pytest

from schemas.errors import InputError
from schemas.hashing import file_sha256
from schemas.manifest import read_manifest
from schemas.naming import index_name
from schemas.record import CorruptRecord, frame, read_framed, read_index
from tests.trainer.synthetic import scales
from trainer.data import Reader


@pytest.fixture
def folder(tmp_path):
    scales(str(tmp_path))
    return str(tmp_path)


def reader(folder, split="train", **options):
    return Reader(folder, read_manifest(folder), split, **options)


def skipping(folder, **options):
    return reader(folder, on_corrupt="skip", **options)


def shard_of(folder, number=0, split="train"):
    return os.path.join(folder, read_manifest(folder).shards_of(split)[number].name)


def damage(path, record):
    """Flips a bit in the payload of a record and returns where the record begins."""
    folder, name = os.path.split(path)
    offset, length = read_index(os.path.join(folder, index_name(name)))[record].tolist()
    with open(path, "r+b") as file:
        file.seek(offset + length // 2)
        byte = file.read(1)[0]
        file.seek(offset + length // 2)
        file.write(bytes([byte ^ 1]))
    return offset


def stream(source, batches=12, batch=6, position=0):
    """Tokens and weights of the first examples from a position on."""
    found = source.shuffled(seed=3, position=position, batch=batch)
    rows = [next(found) for _ in range(batches)]
    return np.concatenate([row["tokens"] for row in rows]), np.concatenate([row["example_weight"] for row in rows])


def test_sound_shards_are_read_the_same_either_way(folder):
    for one, other in zip(stream(reader(folder)), stream(skipping(folder)), strict=True):
        assert np.array_equal(one, other)


def test_a_corrupt_record_counts_nothing_and_every_other_example_keeps_its_place(folder):
    want, _ = stream(reader(folder))
    broken = reader(folder).record(2)["tokens"]
    offset = damage(shard_of(folder), 2)
    source = skipping(folder)
    tokens, weights = stream(source)
    assert np.array_equal(weights == 0, (want == broken).all(axis=1))
    assert np.array_equal(tokens[weights == 1], want[weights == 1])
    error = source.shards.corrupt(2, source.corrupt.pop(2))
    assert (error.shard, error.record, error.offset) == (shard_of(folder), 2, offset)
    assert "checksum of the payload" in error.what and not source.corrupt


def test_what_stands_in_a_corrupt_records_place_does_not_depend_on_what_was_read_before(folder):
    for record in (0, 3, 4, 5, 19):
        damage(shard_of(folder), record)
    whole, weights = stream(skipping(folder), 20)
    source = skipping(folder)
    source.record(4)
    for position in (0, 30, 60):
        tokens, weight = stream(source, 10, position=position)
        assert np.array_equal(tokens, whole[position : position + 60])
        assert np.array_equal(weight, weights[position : position + 60])
    assert np.array_equal(source.record(3)["tokens"], source.record(6)["tokens"])
    assert np.array_equal(source.record(19)["tokens"], source.record(20)["tokens"])


def test_what_stands_in_a_corrupt_records_place_may_go_bad_later(folder):
    damage(shard_of(folder), 3)
    source, records = skipping(folder), np.array([2, 3, 5])
    assert source.read(records)[1].tolist() == [1, 0, 1]
    damage(shard_of(folder), 4)
    damage(shard_of(folder), 5)
    columns, weights = source.read(records)
    assert weights.tolist() == [1, 0, 0] and sorted(source.corrupt) == [3, 4, 5]
    assert np.array_equal(columns["tokens"], skipping(folder).read(records)[0]["tokens"])
    assert np.array_equal(source.record(3)["tokens"], source.record(6)["tokens"])


def test_a_record_that_another_thread_finds_corrupt_meanwhile_is_passed_over_all_the_same(folder, monkeypatch):
    damage(shard_of(folder), 3)
    source, records = skipping(folder), np.array([2, 3, 5])
    known_sound = source._known_sound
    other = threading.Thread(target=source.read, args=(records,))

    def slowly(numbers):
        found = known_sound(numbers)
        if threading.current_thread() is not other and not other.ident:
            other.start()
            other.join(0.5)  # it ends here only where it does not wait for this thread
        return found

    monkeypatch.setattr(source, "_known_sound", slowly)
    assert source.read(records)[1].tolist() == [1, 0, 1]
    other.join()


def test_records_that_go_bad_one_after_the_other_are_refused_in_the_end(folder):
    source = skipping(folder)
    for record in range(19, -1, -1):
        damage(shard_of(folder, record % 2), record)
        assert source.read(np.arange(40))[1].sum() == 20 + record
    for record in range(20):
        damage(shard_of(folder, 1 - record % 2), record)
    with pytest.raises(InputError, match="every record of this split is corrupt"):
        source.read(np.arange(40))


def test_a_corrupt_record_is_not_scored(folder):
    damage(shard_of(folder, split="validation"), 1)
    source = skipping(folder, split="validation")
    weights = np.concatenate([batch["example_weight"] for batch in source.in_order(3)])
    assert weights.tolist() == [1, 0, 1, 1, 1, 1, 1, 0, 0]
    assert list(source.corrupt) == [1]


def test_a_shard_that_was_cut_off_lacks_its_last_records_and_no_others(folder):
    want, _ = stream(reader(folder))
    lost = [reader(folder).record(number)["tokens"] for number in (18, 19)]
    path = shard_of(folder)
    os.truncate(path, list(read_framed(path))[18][0] + 5)
    with pytest.raises(
        CorruptRecord, match=r"00000-of-00002: record 18 at byte \d+: its index says .*--on-corrupt skip"
    ):
        reader(folder)
    source = skipping(folder)
    tokens, weights = stream(source)
    assert np.array_equal(weights == 0, [any((row == one).all() for one in lost) for row in want])
    assert np.array_equal(tokens[weights == 1], want[weights == 1])
    assert sorted(source.corrupt) == [18, 19]


def test_an_empty_file_in_a_shards_place_is_refused_or_passed_over(folder):
    os.truncate(shard_of(folder), 0)
    with pytest.raises(CorruptRecord, match="record 0 at byte 0"):
        reader(folder)
    _, weights = stream(skipping(folder), 10, batch=4)
    assert weights.sum() == 20


def test_a_split_without_one_sound_record_is_refused(folder):
    for number in (0, 1):
        os.truncate(shard_of(folder, number), 30)
    with pytest.raises(InputError, match="every record of this split is corrupt"):
        stream(skipping(folder))


@pytest.mark.parametrize("on_corrupt", ["fail", "skip"])
@pytest.mark.parametrize("what", ["shard", "index"])
def test_a_missing_shard_or_index_is_refused_either_way(folder, what, on_corrupt):
    shard = read_manifest(folder).shards_of("train")[0].name
    os.remove(os.path.join(folder, shard if what == "shard" else index_name(shard)))
    with pytest.raises(InputError, match=f"{shard}.*this {what} is missing. Run `stretto verify`"):
        reader(folder, on_corrupt=on_corrupt)


@pytest.mark.parametrize("on_corrupt", ["fail", "skip"])
def test_a_shard_longer_than_the_manifest_says_is_refused_either_way(folder, on_corrupt):
    with open(shard_of(folder), "ab") as file:
        file.write(frame(b"one more"))
    with pytest.raises(InputError, match="00000-of-00002: .* bytes, or no regular file; the manifest says"):
        reader(folder, on_corrupt=on_corrupt)


def test_a_pipe_in_a_shards_place_is_refused_and_not_waited_for(folder):
    path = shard_of(folder)
    os.remove(path)
    os.mkfifo(path)
    with pytest.raises(InputError, match="or no regular file"):
        reader(folder)


def rewrite_index(folder, edit):
    """Puts another index in the place of the first shard's and returns a manifest that vouches for it."""
    manifest = read_manifest(folder)
    shard = manifest.shards_of("train")[0]
    path = os.path.join(folder, index_name(shard.name))
    with open(path) as file:
        lines = edit([[int(number) for number in line.split()] for line in file])
    with open(path, "w") as file:
        file.writelines(f"{offset} {length}\n" for offset, length in lines)
    told = replace(shard, index_sha256=file_sha256(path))
    return replace(manifest, shards=tuple(told if one == shard else one for one in manifest.shards))


def test_an_index_that_is_not_the_one_of_the_manifest_is_refused(folder):
    rewrite_index(folder, lambda lines: [[offset + 1, length] for offset, length in lines])
    with pytest.raises(InputError, match="idx: its sha256 is not what the manifest says"):
        reader(folder)


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
        lambda lines: [lines[0]] * len(lines),
        lambda lines: [[0, 0]] * len(lines),
        lambda lines: [[0, 1 << 40], *lines[1:]],
        lambda lines: [*lines[:-1], [lines[-1][0], lines[-1][1] + 1]],
        lambda lines: [*lines[:-1], [(1 << 63) - 100, lines[-1][1]]],
    ],
    ids=["swapped", "repeated", "empty", "huge", "past the end", "overflowing"],
)
def test_an_index_whose_records_do_not_follow_one_another_is_refused_though_the_manifest_vouches_for_it(folder, edit):
    manifest = rewrite_index(folder, edit)
    with pytest.raises(InputError, match=r"idx: record \d+ at byte \d+, of \d+ bytes: does not lie behind"):
        Reader(folder, manifest, "train", on_corrupt="skip")
