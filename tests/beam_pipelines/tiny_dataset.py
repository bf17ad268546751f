"""Finished datasets of a few made-up pieces, written without Beam; as sound or as forged as a test wants them."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from beam_pipelines.corpora.midi import MidiFolder
from beam_pipelines.describe import write_documents
from beam_pipelines.seal import files, seal_text
from beam_pipelines.split import dealt
from beam_pipelines.statistics import add, statistics_of, stored
from schemas.feature import KEY_FEATURES, features_to_json
from schemas.hashing import file_sha256, generator, stable_hash
from schemas.manifest import COMPLETED, MANIFEST, Manifest, Shard, manifest_to_json, read_manifest
from schemas.music import Notes, Piece, TempoMap, stretch, transpose
from schemas.naming import SPLITS, copy_key, index_name, shard_name, window_key
from schemas.record import frame, index_line, to_example
from schemas.representations.events import Events
from schemas.settings import to_json

EVENTS = Events(window=64)


@dataclass(frozen=True)
class Entry:
    """One item as the shards hold it."""

    name: str
    split: str
    piece: Piece
    group: str = ""
    copies: tuple[tuple[int, float], ...] = ((0, 1.0),)


def made_piece(seed: int, notes: int = 40) -> Piece:
    """A piece that no other seed gives."""
    draw = generator(seed, "piece", "test")
    start = np.sort(draw.integers(0, notes * 100, notes))
    length, pitch, velocity = draw.integers(20, 300, notes), draw.integers(40, 90, notes), draw.integers(20, 110, notes)
    return Piece(f"made-{seed}", Notes.of(start, start + length, pitch, velocity), tempo=TempoMap.constant(500))


def entries(train: int = 6, validation: int = 2, test: int = 2) -> list[Entry]:
    """Sound entries: every piece another one, train with transposed copies."""
    splits = ["train"] * train + ["validation"] * validation + ["test"] * test
    copies = {"train": ((0, 1.0), (1, 1.0), (0, 1.05))}
    return [
        Entry(f"midi/{number:02d}.mid", split, made_piece(number), f"group {number}", copies.get(split, ((0, 1.0),)))
        for number, split in enumerate(splits)
    ]


def write_dataset(folder: str, chosen: Sequence[Entry], shards: int = 2, crossing: Iterable[str] = ()) -> str:
    """Writes a finished dataset of the entries and returns its folder."""
    statistics, written = {}, []
    for split in SPLITS:
        of_split = [entry for entry in chosen if entry.split == split]
        total = min(shards, len(of_split))
        homes = dealt([entry.name for entry in of_split], total) if total else {}
        for index in range(total):
            held = [entry for entry in of_split if homes[entry.name] == index]
            written.append(_write_shard(folder, shard_name("midi", split, index, total), split, held))
        statistics[split] = add(_statistics(entry) for entry in of_split)
    items = Counter(entry.split for entry in chosen)
    manifest = Manifest(
        "midi", "1", "events", to_json(EVENTS), EVENTS.features(), tuple(written), dict(items), {}, tuple(crossing)
    )
    _write(folder, MANIFEST, manifest_to_json(manifest))
    _write(folder, "features.json", json.dumps(features_to_json({**KEY_FEATURES, **manifest.features})))
    _write(folder, "config.json", json.dumps({"transpose": [0, 1], "seed": 0, "workers": 2}))
    ledger = [ledger_line(entry) for entry in sorted(chosen, key=lambda entry: entry.name)]
    _write(folder, "items.jsonl", "".join(json.dumps(line) + "\n" for line in ledger))
    _write(folder, "quarantine/quarantine.jsonl", "")
    write_documents(folder, MidiFolder(), manifest, statistics, {"instrument": 3}, {".txt": 2}, ["a report"])
    seal(folder)
    return folder


def records_of(entry: Entry) -> list[tuple[str, bytes]]:
    """Key and payload of every record of an entry, unsorted."""
    features = {**KEY_FEATURES, **EVENTS.features()}
    found = []
    for semitones, factor in entry.copies:
        piece = transpose(stretch(entry.piece, factor), semitones)
        for index, record in enumerate(EVENTS.encode(piece)):
            key = window_key(copy_key(entry.name, semitones, factor), index)
            group = (entry.group or entry.name).encode()
            found.append((key, to_example({"key": key.encode(), "group": group, **record}, features)))
    return found


def write_records(
    folder: str, name: str, split: str, records: Sequence[tuple[str, bytes]], ordered: bool = True
) -> Shard:
    """Writes records as a shard with its index."""
    records = sorted(records, key=lambda record: (stable_hash(record[0]), record[0])) if ordered else records
    framed = [frame(payload) for _, payload in records]
    offsets = np.cumsum([0, *map(len, framed)])
    _write(folder, name, b"".join(framed))
    _write(
        folder,
        index_name(name),
        "".join(index_line(int(at), len(data)) for at, data in zip(offsets[:-1], framed, strict=True)),
    )
    paths = (os.path.join(folder, path) for path in (name, index_name(name)))
    return Shard(name, split, len(records), int(offsets[-1]), *map(file_sha256, paths))


def _write_shard(folder: str, name: str, split: str, held: Sequence[Entry]) -> Shard:
    return write_records(folder, name, split, [record for entry in held for record in records_of(entry)])


def _statistics(entry: Entry) -> dict:
    records, tokens = 0, 0
    for semitones, factor in entry.copies:
        windows = list(EVENTS.encode(transpose(stretch(entry.piece, factor), semitones)))
        records, tokens = records + len(windows), tokens + int(windows[0]["piece_tokens"])
    heard = [statistics_of(EVENTS.prepared(entry.piece))] if (0, 1.0) in entry.copies else []
    return add([stored(len(entry.copies), records, tokens), *heard])


def ledger_line(entry: Entry) -> dict:
    """The line of the ledger that says what the shards hold."""
    line = {"name": entry.name, "group": entry.group or entry.name, "split": entry.split, "status": "written"}
    return {**line, "reason": "", "sha256": "0" * 64, "bytes": 100, "records": len(records_of(entry))}


def seal(folder: str) -> None:
    """Writes COMPLETED for what lies there now: a forger would."""
    _write(
        folder,
        COMPLETED,
        seal_text({path: file_sha256(os.path.join(folder, path)) for path in files(folder) if path != COMPLETED}),
    )


def forge_shard(folder: str, name: str, data: bytes) -> None:
    """Puts other bytes in a shard's place and makes manifest and seal agree with them, as a forger would."""
    _write(folder, name, data)
    forge_manifest(folder)


def forge_manifest(folder: str, **changes: object) -> None:
    """Changes fields of the manifest, takes sizes and checksums from what lies there, and seals again."""
    manifest = read_manifest(folder)

    def measured(shard: Shard) -> Shard:
        path, index = os.path.join(folder, shard.name), os.path.join(folder, index_name(shard.name))
        return replace(shard, bytes=os.path.getsize(path), sha256=file_sha256(path), index_sha256=file_sha256(index))

    shards = changes.pop("shards", manifest.shards)
    _write(folder, MANIFEST, manifest_to_json(replace(manifest, shards=tuple(map(measured, shards)), **changes)))
    seal(folder)


def edit_ledger(folder: str, edit) -> None:
    """Rewrites the ledger's lines and seals again."""
    with open(os.path.join(folder, "items.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    _write(folder, "items.jsonl", "".join(json.dumps(line) + "\n" for line in edit(lines)))
    seal(folder)


def _write(folder: str, name: str, data: bytes | str) -> None:
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)


def by_split(chosen: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Entries of each split."""
    found = defaultdict(list)
    for entry in chosen:
        found[entry.split].append(entry)
    return found
