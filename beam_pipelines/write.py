"""One task writes one shard: its inputs to a scratch file as they arrive, then the records in order of their hashes.

Memory does not depend on the size of a shard: of each record only hash, place and length are kept. Writing one twice
is harmless, and one that is there already, made from the same inputs by the same code, is kept.
"""

import contextlib
import hashlib
import os
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from beam_pipelines.augment import variants_of
from beam_pipelines.clean import Refusal
from beam_pipelines.config import Build
from beam_pipelines.corpora.corpus import Item
from beam_pipelines.encode import Encoder, encode, payloads
from beam_pipelines.folder import Folder, read_lines, read_value, write_value
from beam_pipelines.reading_process import ReadingProcess
from beam_pipelines.statistics import Statistics, add, statistics_of, statistics_of_decoded, stored
from beam_pipelines.survey import CHANGED, parse_data, unchanged_data
from beam_pipelines.suspects import Writing, read_suspects
from media.storage import cannot_write
from schemas.feature import RecordError
from schemas.hashing import file_sha256, fingerprint, stable_hash
from schemas.manifest import Shard
from schemas.music import Piece
from schemas.naming import index_name, parse_shard_name
from schemas.record import FRAMING_BYTES, frame, from_example, index_line

_BATCH_RECORDS = 256
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Reference:
    """An input of a shard, the bytes it had when it was surveyed, and the fingerprint of what was read in them."""

    item: Item
    sha256: str
    exact: str = ""


@dataclass(frozen=True)
class Written:
    """What became of an input: records, what it adds to the statistics, and copies that left the range, by reason."""

    records: int
    statistics: Statistics
    dropped: dict[str, int]


def write_shard(build: Build, folder: Folder, name: str, done: Callable[[], None]) -> bool:
    """Writes a shard, its index and its report; returns whether they were there. `done` hears of each input."""
    if is_finished(build, folder, name) and _is_whole(folder, name):
        return True
    references = read_references(folder, name)
    split = parse_shard_name(name)[1]
    encoder = encoder_of(build, split)
    with _scratch(folder, name) as scratch:
        outcomes, writing, suspects = {}, Writing(folder), read_suspects(folder)
        for reference in references:
            key = reference.item.name
            writing.begin(key)
            fault = _fault_of_suspect(build, reference, split) if key in suspects else None
            outcomes[key] = fault or write_item(build, encoder, reference, scratch)
            done()
        writing.end()
        shard = settle(scratch, folder, name, split, encoder)
    write_value(
        folder.shard_report(name),
        {"source": shard_fingerprint(build, name, references), "shard": asdict(shard), **_totals(outcomes)},
    )
    return False


def _fault_of_suspect(build: Build, reference: Reference, split: str) -> Refusal | None:
    process = ReadingProcess(build)
    try:
        answer = process.ask("encode", reference.item, sha256=reference.sha256, split=split)
    finally:
        process.close()
    return answer.refusal


def try_item(build: Build, item: Item, note: Callable[..., None], sha256: str, split: str) -> None:
    """Writes an input to a file that nobody keeps, to see whether the process lives through it."""
    # Where working files lie, so that what is left by a process that died of it is removed with them.
    place = Folder(build.building).path("progress", "scratch")
    os.makedirs(place, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        scratch = Scratch(os.path.join(folder, "scratch"))
        write_item(build, encoder_of(build, split), Reference(item, sha256), scratch)
        scratch.file.close()


def _totals(outcomes: dict[str, Written | Refusal]) -> dict[str, Any]:
    """Outcome of every input, and the statistics and dropped copies of those written."""
    written = [outcome for outcome in outcomes.values() if isinstance(outcome, Written)]
    dropped = sum((Counter(outcome.dropped) for outcome in written), Counter())
    return {
        "items": {
            name: outcome.records if isinstance(outcome, Written) else asdict(outcome)
            for name, outcome in outcomes.items()
        },
        "statistics": add(outcome.statistics for outcome in written),
        "dropped_copies": dict(sorted(dropped.items())),
    }


def encoder_of(build: Build, split: str) -> Encoder:
    """How the pieces of a split become bytes."""
    variants = variants_of(split, build.transpose, build.stretch, build.corpus.pitch_range)
    return Encoder(build.representation.for_split(split), variants)


def shard_fingerprint(build: Build, name: str, references: list[Reference]) -> str:
    """What a shard is made from: choices and code that write, and its inputs as they were read."""
    inputs = [[asdict(reference.item), reference.sha256, reference.exact] for reference in references]
    return fingerprint({"written": build.written_fingerprint, "shard": name, "inputs": _printable(inputs)})


def _printable(value: Any) -> Any:
    # Undecodable bytes of file names are surrogates, which have no UTF-8.
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value


def is_finished(build: Build, folder: Folder, name: str) -> bool:
    """Whether the shard was finished from the planned inputs, judged by its report and the sizes of its files."""
    report = read_value(folder.shard_report(name))
    if report is None or report["source"] != shard_fingerprint(build, name, read_references(folder, name)):
        return False
    if any(isinstance(outcome, dict) and outcome["reason"] == CHANGED for outcome in report["items"].values()):
        return False  # it may be back by now as it was surveyed
    with contextlib.suppress(FileNotFoundError):
        return os.path.getsize(folder.path(name)) == report["shard"]["bytes"] and os.path.exists(
            folder.path(index_name(name))
        )
    return False


def read_references(folder: Folder, name: str) -> list[Reference]:
    """The planned inputs of a shard."""
    lines = read_lines(folder.references(name))
    return [Reference(Item(**line["item"]), line["sha256"], line["exact"]) for line in lines]


def _is_whole(folder: Folder, name: str) -> bool:
    shard = read_value(folder.shard_report(name))["shard"]
    found = file_sha256(folder.path(name)), file_sha256(folder.path(index_name(name)))
    return found == (shard["sha256"], shard["index_sha256"])


class Scratch:
    """Framed records in order of arrival, in a file; hash, place and length of each in memory."""

    def __init__(self, path: str) -> None:
        self.file = open(path, "w+b", buffering=_BUFFER_BYTES)  # noqa: SIM115  closed by `_scratch`
        self.hashes, self.offsets, self.lengths = array("Q"), array("Q"), array("Q")
        self.size = 0

    def append(self, key: str, payload: bytes) -> None:
        """Adds one record."""
        data = frame(payload)
        self.file.write(data)
        self.hashes.append(stable_hash(key))
        self.offsets.append(self.size)
        self.lengths.append(len(data))
        self.size += len(data)

    def cut(self, records: int) -> None:
        """Takes back everything after the first records."""
        if records == len(self.offsets):
            return
        self.size = self.offsets[records]
        for column in (self.hashes, self.offsets, self.lengths):
            del column[records:]
        self.file.seek(self.size)
        self.file.truncate()

    def read(self, record: int) -> bytes:
        """The framed bytes of one record. Everything must have been flushed."""
        return os.pread(self.file.fileno(), self.lengths[record], self.offsets[record])


@contextlib.contextmanager
def _scratch(folder: Folder, name: str) -> Iterator[Scratch]:
    os.makedirs(folder.path("progress", "scratch"), exist_ok=True)
    path = folder.path("progress", "scratch", f"{name}-{os.getpid()}")
    scratch = Scratch(path)
    try:
        yield scratch
    finally:
        scratch.file.close()
        os.unlink(path)


def write_item(build: Build, encoder: Encoder, reference: Reference, scratch: Scratch) -> Written | Refusal:
    """Adds the records of one input, or says why there are none. What a failing input had added is taken back.

    Its bytes are compared before they are parsed: only what the survey has read in safety is read here.
    """
    item, before = reference.item, len(scratch.offsets)
    data = unchanged_data(build, item, reference.sha256)
    piece = data if isinstance(data, Refusal) else parse_data(build, item, data)
    if isinstance(piece, Refusal):
        return piece
    try:
        written = _write_piece(encoder, piece, item, scratch)
    except (ArithmeticError, LookupError, TypeError, ValueError, RecordError) as error:
        scratch.cut(before)
        return Refusal("quarantined", "not-encodable", f"{item.name}: {type(error).__name__}: {error}")
    if not written.records:
        return Refusal("skipped", "no-copy-fits", f"{item.name}: every copy leaves the range: {written.dropped}")
    return written


def _write_piece(encoder: Encoder, piece: Piece, item: Item, scratch: Scratch) -> Written:
    group, features, before = item.group.encode("utf-8", "backslashreplace"), encoder.features(), len(scratch.offsets)
    prepared, dropped, copies = encode(encoder, piece)
    count = tokens = 0
    for copy in copies:
        count, tokens = count + 1, tokens + copy.tokens
        for key, payload in payloads(copy, group, features):
            scratch.append(key, payload)
    records = len(scratch.offsets) - before
    count_heard = statistics_of_decoded if hasattr(encoder.representation, "voices") else statistics_of
    heard = count_heard(prepared) if (0, 1.0) in encoder.variants.pairs else {}
    return Written(records, add([heard, stored(count, records, tokens)]), dropped)


def settle(scratch: Scratch, folder: Folder, name: str, split: str, encoder: Encoder) -> Shard:
    """Copies the scratch file's records in order of (hash of key, key) to the shard, and writes its index."""
    scratch.file.flush()
    order = sorted_records(scratch, encoder)
    shard_digest, index_digest, size = hashlib.sha256(), hashlib.sha256(), 0
    with _placed(folder.path(name)) as shard, _placed(folder.path(index_name(name))) as index:
        for start in range(0, len(order), _BATCH_RECORDS):
            chunks = [scratch.read(record) for record in order[start : start + _BATCH_RECORDS]]
            lines = []
            for chunk in chunks:
                lines.append(index_line(size, len(chunk)))
                size += len(chunk)
            for file, digest, data in (
                (shard, shard_digest, b"".join(chunks)),
                (index, index_digest, "".join(lines).encode()),
            ):
                digest.update(data)
                file.write(data)
    return Shard(name, split, len(order), size, shard_digest.hexdigest(), index_digest.hexdigest())


def sorted_records(scratch: Scratch, encoder: Encoder) -> list[int]:
    """The records in the order of the shard."""
    hashes = np.frombuffer(scratch.hashes, np.uint64) if scratch.hashes else np.zeros(0, np.uint64)
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    if not (ranked[1:] == ranked[:-1]).any():
        return list(order.tolist())
    # Two keys of one hash are next to impossible, so that their keys are read back only then.
    return sorted(range(len(hashes)), key=lambda record: (int(hashes[record]), _key(scratch, record, encoder)))


def _key(scratch: Scratch, record: int, encoder: Encoder) -> bytes:
    payload = scratch.read(record)[FRAMING_BYTES - 4 : -4]
    return bytes(from_example(payload, encoder.features())["key"])


@contextlib.contextmanager
def _placed(path: str) -> Iterator[Any]:
    """A file that appears under its name when it is whole and on the disk."""
    scratch = f"{path}.tmp-{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(scratch, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except OSError as error:
        # On a full disk half a shard would take the room that its second try needs.
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        raise cannot_write(path, error) from error
