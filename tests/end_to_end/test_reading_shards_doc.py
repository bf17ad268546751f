"""The page on reading shards without Stretto is true: its blocks run as they stand, each in a process of its own."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from schemas.feature import KEY_FEATURES
from schemas.grid import REST, piece_of
from schemas.manifest import MANIFEST, Manifest, manifest_to_json
from schemas.music import Notes, Piece
from schemas.naming import copy_key, index_name, item_name, shard_name, window_key
from schemas.record import frame, index_line, to_example
from schemas.representations.events import Events
from schemas.representations.voices import Voices
from schemas.tokens import real_length

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reading-shards.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
CORPUS = "music21-chorales"
PIECES = (300, 40, 1, 120, 0)
"""Notes of each piece: several windows, one window, and as few as there can be."""
CELLS = np.random.default_rng(0).integers(60, REST + 1, (150, 4))


def records():
    """Key, and every feature of every window of made-up pieces; the settings are those of the page."""
    representation = Events(window=512)
    for number, notes in enumerate(PIECES):
        start = np.sort(np.random.default_rng(number).integers(0, 100_000, notes))
        music = Piece("piece", Notes.of(start, start + 400, 40 + start % 40, 64))
        copy = copy_key(item_name(CORPUS, f"bach/{number}.mxl"), 0, 1.0)
        for index, record in enumerate(representation.encode(music)):
            yield {**record, "key": window_key(copy, index).encode(), "group": b"bach"}


def write_shard(folder, name, payloads):
    frames = [frame(payload) for payload in payloads]
    offsets = np.cumsum([0, *map(len, frames)])
    lines = [index_line(offset, len(item)) for offset, item in zip(offsets, frames, strict=False)]
    (folder / name).write_bytes(b"".join(frames))
    (folder / index_name(name)).write_text("".join(lines))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A folder holding the dataset `chorales`: a long shard, one of one record, an empty one, and another split."""
    place = tmp_path_factory.mktemp("reader")
    folder = place / "chorales"
    (folder / "index").mkdir(parents=True)
    features = {**KEY_FEATURES, **Events(window=512).features()}
    payloads = [to_example(record, features) for record in records()]
    for index, part in enumerate((payloads[:-1], payloads[-1:], [])):
        write_shard(folder, shard_name(CORPUS, "train", index, 3), part)
    write_shard(folder, shard_name(CORPUS, "test", 0, 1), payloads)
    manifest = Manifest(CORPUS, "1", "events", {"window": 512}, Events(window=512).features(), ())
    (folder / MANIFEST).write_text(manifest_to_json(manifest), encoding="utf-8")
    write_cells(place / "four-voices")
    return place


def write_cells(folder):
    """The dataset `four-voices`: one piece, whose last window is not full."""
    (folder / "index").mkdir(parents=True)
    voices = Voices()
    windows = enumerate(voices.encode(piece_of(CELLS, voices.steps_per_quarter, 100.0)))
    copy = copy_key(item_name("jsb", "made.json"), 0, 1.0)
    keyed = ({**record, "key": window_key(copy, index).encode(), "group": b"made"} for index, record in windows)
    features = {**KEY_FEATURES, **voices.features()}
    write_shard(folder, shard_name("jsb", "train", 0, 1), [to_example(record, features) for record in keyed])


@pytest.fixture(scope="module")
def expected():
    """What both readers have to print."""
    windows = list(records())
    events = sum(map(real_length, windows))
    assert events > 1000
    return f"{len(windows)} windows, {events} events"


def run(block, place):
    """What a block prints. Stretto cannot be imported where it runs."""
    program = place / "block.py"
    program.write_text(block, encoding="utf-8")
    command = [sys.executable, "-I", "-W", "ignore", str(program)]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def needs(package):
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed")


def test_the_page_has_the_blocks_that_are_run_here():
    assert [re.search(r"^(?:from|import) (tensorflow|tfrecord)", block, re.MULTILINE)[1] for block in BLOCKS] == [
        "tensorflow",
        "tensorflow",
        "tfrecord",
        "tfrecord",
    ]
    assert not any("stretto" in block or "schemas" in block for block in BLOCKS)


@needs("tensorflow")
def test_tensorflow_reads_every_window_and_the_very_ids_that_were_encoded(dataset, expected):
    # Both blocks in one process, because to import TensorFlow takes longer than all they do.
    code = BLOCKS[0] + "\nprint(json.dumps([row[mask].numpy().tolist() for row, mask in zip(targets, real)]))\n"
    counts, last_batch, cells = run(code + BLOCKS[1], dataset).splitlines()
    assert counts == expected
    assert cells == f"{len(CELLS)} steps, {(CELLS < REST).sum()} cells that sound"
    encoded = [record["tokens"][: real_length(record)].tolist() for record in records()]
    assert json.loads(last_batch) == encoded[-((len(encoded) - 1) % 8 + 1) :]


@needs("tfrecord")
def test_the_tfrecord_package_reads_every_window_by_the_index(dataset, expected):
    assert run(BLOCKS[2], dataset) == expected


@needs("tfrecord")
def test_one_record_is_found_by_its_line_of_the_index(dataset):
    keys = [record["key"].decode() for record in records()]
    assert run(BLOCKS[3], dataset) == keys[-2]
