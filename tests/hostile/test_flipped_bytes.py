"""One flipped byte anywhere in a finished dataset: `verify` names the file, training notices it in what it reads."""

import random
import shutil
from pathlib import Path

import pytest

from beam_pipelines.verify import verify
from schemas.errors import InputError
from schemas.manifest import COMPLETED, MANIFEST, read_manifest
from schemas.record import CorruptRecord
from tests.beam_pipelines.tiny_dataset import Entry, entries, made_piece, write_dataset
from trainer.data import Reader

MANY = pytest.param(200, marks=pytest.mark.slow)
KINDS = {
    "shards": "*.tfrecord-*",
    "indexes": "index/*",
    "manifest": MANIFEST,
    "seal": COMPLETED,
    "ledger": "items.jsonl",
    "statistics": "stats.json",
    "anything else": "[!m]*.*",
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A dataset as small as one can be, so that it can be looked at a thousand times."""
    chosen = [
        Entry(entry.name, entry.split, made_piece(number, 12), entry.group, entry.copies)
        for number, entry in enumerate(entries(2, 1, 1))
    ]
    return Path(write_dataset(str(tmp_path_factory.mktemp("flipped") / "data"), chosen, shards=1))


@pytest.fixture
def copy(dataset, tmp_path):
    return shutil.copytree(dataset, tmp_path / "data")


def flips(folder, pattern, count):
    """Flips one byte after the other in the files of a pattern; each is put right before the next. Yields the path."""
    draw = random.Random(f"{pattern} {count}")
    paths = sorted(path for path in folder.glob(pattern) if path.is_file() and path.stat().st_size)
    sizes = [path.stat().st_size for path in paths]
    for _ in range(count):
        path = draw.choices(paths, sizes)[0]
        whole = path.read_bytes()
        place = draw.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ draw.randrange(1, 256)]) + whole[place + 1 :])
        yield path, f"{path.name}, byte {place}: {whole[place]:#04x} -> {path.read_bytes()[place]:#04x}"
        path.write_bytes(whole)


def is_named(name, finding):
    return name in (finding.file, *finding.message.split())


@pytest.mark.parametrize("count", [40, MANY])
@pytest.mark.parametrize("kind", KINDS)
def test_verify_notices_a_flipped_byte_anywhere_and_names_the_file(copy, kind, count):
    assert verify(str(copy)).exit_code == 0
    for path, flip in flips(copy, KINDS[kind], count):
        report = verify(str(copy))
        assert report.exit_code == 5, flip
        name = path.relative_to(copy).as_posix()
        assert any(is_named(name, finding) for finding in report.findings), flip


@pytest.mark.parametrize("mark", [b"\x0b", b"\x0c", b"\r", b"\x1c", b" ", b"\0"])
def test_verify_notices_another_end_of_a_line_of_the_seal(copy, mark):
    whole = (copy / COMPLETED).read_bytes()
    for place in (place for place, byte in enumerate(whole) if byte == ord("\n")):
        (copy / COMPLETED).write_bytes(whole[:place] + mark + whole[place + 1 :])
        assert any(is_named(COMPLETED, finding) for finding in verify(str(copy)).findings), place


@pytest.mark.parametrize("edit", [sorted, lambda lines: [*lines, lines[0]], lambda lines: lines[::-1]])
def test_verify_notices_a_seal_with_its_lines_in_another_order_or_twice(copy, edit):
    lines = (copy / COMPLETED).read_text().splitlines(keepends=True)
    (copy / COMPLETED).write_text("".join(edit(lines)))
    assert COMPLETED in {finding.file for finding in verify(str(copy)).findings}


@pytest.mark.parametrize("count", [40, MANY])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_training_notices_a_flipped_byte_in_all_that_it_reads_of_a_shard(copy, split, count):
    manifest = read_manifest(str(copy))
    for path, flip in flips(copy, f"*-{split}.tfrecord-*", count):
        with pytest.raises(CorruptRecord, match=r": record \d+ at byte \d+: ") as caught:
            list(Reader(str(copy), manifest, split).in_order(2))
        assert caught.value.shard == str(path), flip
        skipping = Reader(str(copy), manifest, split, on_corrupt="skip")
        sound = len(skipping) - 1
        if sound:
            assert sum(batch["example_weight"].sum() for batch in skipping.in_order(2)) == sound, flip
            assert list(skipping.corrupt) == [caught.value.record], flip


@pytest.mark.parametrize("count", [40, MANY])
def test_training_notices_a_flipped_byte_in_an_index(copy, count):
    manifest = read_manifest(str(copy))
    for path, flip in flips(copy, "index/*", count):
        split = next(name for name in manifest.splits if f"-{name}." in path.name)
        with pytest.raises(InputError) as caught:
            Reader(str(copy), manifest, split, on_corrupt="skip")
        assert str(path) in str(caught.value), flip


@pytest.mark.parametrize("count", [40, MANY])
def test_whoever_reads_a_manifest_notices_a_flipped_byte_in_it(copy, count):
    for path, flip in flips(copy, MANIFEST, count):
        with pytest.raises(InputError) as caught:
            read_manifest(str(copy))
        assert str(path) in str(caught.value), flip


def test_whoever_reads_a_manifest_notices_a_flipped_byte_in_what_the_seal_says_of_it(copy):
    whole = (copy / COMPLETED).read_bytes()
    end = whole.index(MANIFEST.encode()) + len(MANIFEST)
    for place in range(end - len(MANIFEST) - 66, end):
        (copy / COMPLETED).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match=f"which is not what {COMPLETED} lists"):
            read_manifest(str(copy))
