"""One shard, looked at byte by byte: framing, checksums, index, records against their features, keys and their order.

The shard is mapped, not read, and records are looked at one by one, so memory does not grow with its size. After a
damaged record the index says where the next one begins; without a usable index the rest of the shard cannot be judged,
which is a finding too.
"""

import mmap
import os
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from beam_pipelines.augment import from_original
from beam_pipelines.findings import Findings, refuse_forbidden
from beam_pipelines.fingerprints import exact_fingerprint, sketch
from beam_pipelines.statistics import Statistics, add, empty, statistics_of_decoded, stored
from schemas.errors import InputError
from schemas.feature import Record, RecordError, check_record
from schemas.hashing import file_sha256, stable_hash
from schemas.manifest import Manifest, Shard
from schemas.naming import Key, copy_key, index_name, parse_key
from schemas.record import FRAMING_BYTES, from_example, masked_crc, read_index
from schemas.representation import Representation
from schemas.window import piece_length

_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies: number, offset of its framing, length of its payload."""

    number: int
    offset: int
    length: int


@dataclass
class CopySeen:
    """One copy of an item: records, highest window, tokens of the whole piece; where its records lie."""

    records: int = 0
    last_window: int = -1
    tokens: int = 0
    places: list["Place"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a decoded item is known by: its original, or the copy nearest to it where the shards hold no original.

    Attributes:
        semitones: how much higher the copy is than the original.
        factor: how much longer it takes.
        records: numbers of its records in the shard, uint32 [record].
        sketch: what near copies have much of in common (`beam_pipelines.fingerprints`).
        fingerprint: equal for equal notes; "" where it is no original.
    """

    semitones: int
    factor: float
    records: "array[int]"
    sketch: str
    fingerprint: str


@dataclass
class ItemSeen:
    """One item in a shard: its group and records, and what was heard of it, where it could be decoded."""

    group: str
    records: int = 0
    heard: Heard | None = None


@dataclass
class Contents:
    """What a shard was found to hold; hashes (0: could not be read) and offsets are uint64 [record]."""

    shard: Shard
    items: dict[str, ItemSeen] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=empty)
    key_hashes: array = field(default_factory=lambda: array("Q"))
    offsets: array = field(default_factory=lambda: array("Q"))


def check_shard(
    folder: str, shard: Shard, manifest: Manifest, representation: Representation | None, findings: Findings
) -> Contents | None:
    """What the shard holds, with everything that is wrong added to the findings; None where it is not there.

    Raises MachineError where the shard or its index may not be read.
    """
    path = os.path.join(folder, shard.name)
    try:
        size, sha256 = os.path.getsize(path), file_sha256(path)
    except OSError as error:
        refuse_forbidden(path, error)
        message = f"the manifest names this shard, but it cannot be read: {error.strerror}"
        findings.add("missing", message, shard.name, told_from=[shard.name])
        return None
    if sha256 != shard.sha256:
        findings.damaged.add(shard.name)
    index = _index(folder, shard, findings)
    contents = Contents(shard)
    if size:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _check_data(data, index, contents, manifest, representation, findings)
    elif shard.records or (index is not None and len(index)):
        findings.add("count", f"is empty, the manifest says {shard.records} records", shard.name)
    # Told only now, because what its records say is nearer to the cause.
    if size != shard.bytes:
        findings.add("size", f"{size} bytes, the manifest says {shard.bytes}", shard.name)
    if sha256 != shard.sha256:
        findings.add("sha256", f"is {sha256}, the manifest says {shard.sha256}", shard.name)
    return contents


def _index(folder: str, shard: Shard, findings: Findings) -> np.ndarray | None:
    name = index_name(shard.name)
    path = os.path.join(folder, name)
    try:
        if file_sha256(path) != shard.index_sha256:
            findings.add("sha256", "the index is not what the manifest says", name)
        return read_index(path)
    except OSError as error:
        refuse_forbidden(path, error)
        findings.add("missing", f"the index of a shard cannot be read: {error.strerror}", name, told_from=[name])
    except InputError as error:
        findings.add("index", str(error), name)
    return None


def _check_data(
    data: mmap.mmap,
    index: np.ndarray | None,
    contents: Contents,
    manifest: Manifest,
    representation: Representation | None,
    findings: Findings,
) -> None:
    copies: dict[tuple[str, int, float], CopySeen] = {}
    features, shard = manifest.all_features, contents.shard
    previous, framed = (-1, ""), 0
    for place in _records(data, index, shard.name, findings):
        framed += 1
        contents.offsets.append(place.offset)
        where = {"record": place.number, "offset": place.offset}
        payload = _payload(data, place)
        checksum = _CHECKSUM.unpack_from(data, place.offset + 12 + place.length)[0]
        if checksum != masked_crc(payload):
            findings.add(
                "checksum",
                "the payload's checksum does not match",
                shard.name,
                key=_key_text(payload, manifest),
                **where,
            )
            contents.key_hashes.append(0)
            continue
        try:
            record = from_example(payload, features)
            check_record(record, features)
        except RecordError as error:
            findings.add("features", str(error), shard.name, key=_key_text(payload, manifest), **where)
            contents.key_hashes.append(0)
            continue
        previous = _note_record(record, place, previous, copies, contents, findings)
    if framed != shard.records:
        message = f"{framed} records, the manifest says {shard.records}"
        findings.add("count", message, shard.name, told_from=[shard.name])
    _check_index(data, index, framed, shard, findings)
    _close_copies(data, copies, contents, manifest, representation, findings)


def _payload(data: mmap.mmap, place: Place) -> bytes:
    return data[place.offset + 12 : place.offset + 12 + place.length]


def _records(data: mmap.mmap, index: np.ndarray | None, name: str, findings: Findings) -> Iterator[Place]:
    """Where each record lies, by the framing; the index helps past a damaged length."""
    offset, number = 0, 0
    while offset < len(data):
        length = _length(data, offset)
        if length is None:
            findings.add("framing", "the record's length is damaged", name, record=number, offset=offset)
            following = _after(index, offset)
            if following is None or following >= len(data):
                findings.add(
                    "framing", f"{len(data) - offset} bytes from here on cannot be judged", name, offset=offset
                )
                return
            number, offset = number + 1, following
            continue
        yield Place(number, offset, length)
        number, offset = number + 1, offset + length + FRAMING_BYTES


def _length(data: mmap.mmap, offset: int) -> int | None:
    if len(data) - offset < FRAMING_BYTES:
        return None
    length, checksum = _HEADER.unpack_from(data, offset)
    fits = length <= len(data) - offset - FRAMING_BYTES
    return int(length) if fits and checksum == masked_crc(data[offset : offset + 8]) else None


def _after(index: np.ndarray | None, offset: int) -> int | None:
    """The offset of the record after the one at `offset`, by the index."""
    if index is None:
        return None
    later = index[:, 0][index[:, 0] > offset]
    return int(later.min()) if len(later) else None


def _key_text(payload: bytes, manifest: Manifest) -> str:
    """The key of a damaged record where it can still be read."""
    try:
        return str(from_example(payload, manifest.all_features)["key"].decode())
    except (RecordError, UnicodeDecodeError):
        return ""


def _note_record(
    record: Record,
    place: Place,
    previous: tuple[int, str],
    copies: dict[tuple[str, int, float], CopySeen],
    contents: Contents,
    findings: Findings,
) -> tuple[int, str]:
    """Enters one sound record; returns what the next record's key must come after."""
    shard = contents.shard
    where = {"record": place.number, "offset": place.offset}
    try:
        text, group = record["key"].decode(), record["group"].decode()
        key = parse_key(text)
    except ValueError as error:
        findings.add("key", str(error), shard.name, **where)
        contents.key_hashes.append(0)
        return previous
    order = (stable_hash(text), text)
    contents.key_hashes.append(order[0])
    if order <= previous:
        what = (
            "twice in this shard" if order == previous else "out of order: records are sorted by the hash of their key"
        )
        findings.add("order", what, shard.name, key=text, **where)
    if not key.is_original and shard.split != "train":
        findings.add(
            "variant", f"a changed copy in {shard.split}; only train may hold any", shard.name, key=text, **where
        )
    _note_item(key, text, group, where, contents, findings)
    _note_copy(key, record, place, copies)
    return max(order, previous)


def _note_item(key: Key, text: str, group: str, where: dict[str, int], contents: Contents, findings: Findings) -> None:
    item = contents.items.setdefault(key.item, ItemSeen(group))
    item.records += 1
    if item.group != group:
        message = f"says group {group!r}, another record of the same item {item.group!r}"
        findings.add("group", message, contents.shard.name, key=text, **where)


def _note_copy(key: Key, record: Record, place: Place, copies: dict[tuple[str, int, float], CopySeen]) -> None:
    copy = copies.setdefault((key.item, key.semitones, key.stretch), CopySeen())
    copy.records += 1
    copy.last_window = max(copy.last_window, key.window)
    copy.tokens = piece_length(record)
    copy.places.append(place)


def _check_index(data: mmap.mmap, index: np.ndarray | None, framed: int, shard: Shard, findings: Findings) -> None:
    """The index must say the same as the framing: offsets that follow one another to the end of the shard."""
    if index is None:
        return
    name = index_name(shard.name)
    if len(index) != framed:
        findings.add("index", f"{len(index)} lines for {framed} records", name, told_from=[shard.name])
        return
    ends = np.append(0, np.cumsum(index[:, 1]))
    wrong = np.flatnonzero(index[:, 0] != ends[:-1])
    lengths = [_length(data, int(offset)) for offset in index[:, 0]] if not len(wrong) else []
    mismatched = [n for n, length in enumerate(lengths) if length is not None and length + FRAMING_BYTES != index[n, 1]]
    if len(wrong) or mismatched or ends[-1] != len(data):
        number = int(wrong[0]) if len(wrong) else (mismatched or [framed - 1])[0]
        message = f"line {number + 1} does not say where the record lies"
        findings.add("index", message, name, told_from=[shard.name], record=number)


def _close_copies(
    data: mmap.mmap,
    copies: dict[tuple[str, int, float], CopySeen],
    contents: Contents,
    manifest: Manifest,
    representation: Representation | None,
    findings: Findings,
) -> None:
    """Checks that no window is missing, counts what the originals hold by decoding them, and notes what was heard."""
    tokens = 0
    for (item, semitones, factor), copy in copies.items():
        if copy.records != copy.last_window + 1:
            message = f"{copy.records} windows, numbered to {copy.last_window}: windows are missing or there twice"
            name = contents.shard.name
            findings.add("windows", message, name, told_from=[name], key=copy_key(item, semitones, factor))
        tokens += copy.tokens
    originals = [] if representation is None else _listen(data, copies, contents, manifest, representation)
    records = sum(copy.records for copy in copies.values())
    contents.statistics = add([stored(len(copies), records, tokens), *originals])


def _listen(
    data: mmap.mmap,
    copies: dict[tuple[str, int, float], CopySeen],
    contents: Contents,
    manifest: Manifest,
    representation: Representation,
) -> Iterator[Statistics]:
    """Decodes one copy of every item and notes what is heard; gives the statistics of originals."""
    for item, semitones, factor in sorted(copies, key=lambda copy: from_original(*copy[1:])):
        if contents.items[item].heard is not None:
            continue
        places = copies[item, semitones, factor].places
        piece = representation.decode(from_example(_payload(data, place), manifest.all_features) for place in places)
        numbers = array("I", (place.number for place in places))
        is_original = (semitones, factor) == (0, 1.0)
        fingerprint = exact_fingerprint(piece) if is_original else ""
        contents.items[item].heard = Heard(semitones, factor, numbers, sketch(piece), fingerprint)
        if is_original:
            yield statistics_of_decoded(piece)


def key_at(folder: str, contents: Contents, record: int, manifest: Manifest) -> str:
    """The key of one record that was found sound, read again."""
    with open(os.path.join(folder, contents.shard.name), "rb") as file:
        file.seek(contents.offsets[record])
        length = _HEADER.unpack(file.read(12))[0]
        return _key_text(file.read(length), manifest)
