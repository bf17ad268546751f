"""Copies across splits, as `verify` looks for them in decoded shards: the same notes under two names, and near copies.

The sketch that `check_shard` made of every piece says which pairs are likely; both are decoded again from their places,
and only notes that meet are a finding.
"""

import os
import struct
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from beam_pipelines.alignment import Copy
from beam_pipelines.check_shard import Contents, Heard
from beam_pipelines.findings import Finding, Findings
from beam_pipelines.split import NearLeak, leaks, near_leaks
from schemas.feature import Record, RecordError
from schemas.manifest import Manifest
from schemas.music import Piece
from schemas.record import from_example
from schemas.representation import Representation

_HEADER = struct.Struct("<QI")


@dataclass(frozen=True)
class _Home:
    """Where a piece lies that was heard."""

    contents: Contents
    heard: Heard

    @property
    def split(self) -> str:
        return self.contents.shard.split


@dataclass(frozen=True)
class Excused:
    """What the manifest says of the corpus itself: groups that cross its splits, pairs of a piece and its original."""

    groups: Collection[str] = ()
    pairs: Collection[tuple[str, str]] = ()


def check_copies(
    folder: str,
    contents: list[Contents],
    manifest: Manifest,
    representation: Representation | None,
    findings: Findings,
    excused: Excused,
) -> None:
    """Adds a finding for every piece that is in another split too, under another name.

    Not where both are of one group that is known to cross the splits; a pair that is known is noted as such.
    """
    groups = {name: item.group for shard in contents for name, item in shard.items.items()}
    homes = {name: _Home(shard, item.heard) for shard in contents for name, item in shard.items.items() if item.heard}
    originals = [(name, home.split, home.heard.fingerprint) for name, home in homes.items() if home.heard.fingerprint]
    same = leaks(originals)

    def note(kind: str, message: str, name: str, keeper: str) -> None:
        if groups[name] == groups[keeper] and groups[name] in excused.groups:
            return
        place = _place(name, homes[name])
        if (name, keeper) in excused.pairs:
            findings.known.append(Finding(kind, message, **place))
        else:
            findings.add(kind, message, **place)

    for name, keeper in same.items():
        note("same-piece", f"holds the same notes as {keeper}, which is in {homes[keeper].split}", name, keeper)
    if representation is None:
        return

    def load(name: str) -> Piece | None:
        return _piece(folder, homes[name], manifest, representation)

    pieces = [(name, home.split, home.heard.sketch) for name, home in homes.items()]
    for name, leak in near_leaks(pieces, load):
        if name not in same:
            note("copy", _told(homes, name, leak), name, leak.keeper)


def _place(name: str, home: _Home) -> dict[str, Any]:
    """Where a finding about a piece points to."""
    record = home.heard.records[0]
    return {"file": home.contents.shard.name, "key": name, "record": record, "offset": home.contents.offsets[record]}


def _told(homes: dict[str, _Home], name: str, leak: NearLeak) -> str:
    """What is wrong with a piece that is a near copy: of which, in which split, changed how."""
    copy = _between_originals(leak.copy, homes[leak.keeper].heard, homes[name].heard)
    relation = "is a copy of" if copy.is_whole else "holds" if copy.found >= copy.covered else "is a part of"
    met = max(copy.found, copy.covered)
    return f"{relation} {leak.keeper}, which is in {homes[leak.keeper].split}: {copy}; {met:.0%} of the onsets meet"


def _between_originals(copy: Copy, keeper: Heard, heard: Heard) -> Copy:
    """How the original of the one becomes the original of the other, where changed copies of them were compared."""
    return replace(
        copy,
        semitones=copy.semitones + keeper.semitones - heard.semitones,
        factor=copy.factor * keeper.factor / heard.factor,
        later=copy.later / heard.factor,
    )


def _piece(folder: str, home: _Home, manifest: Manifest, representation: Representation) -> Piece | None:
    """The piece, decoded again; None where its shard was changed or taken away meanwhile."""
    try:
        with open(os.path.join(folder, home.contents.shard.name), "rb") as file:
            records = [_record(file, home.contents, number, manifest) for number in home.heard.records]
        return representation.decode(records)
    except (OSError, RecordError, struct.error):
        return None


def _record(file: BinaryIO, contents: Contents, number: int, manifest: Manifest) -> Record:
    file.seek(contents.offsets[number])
    length = _HEADER.unpack(file.read(_HEADER.size))[0]
    return from_example(file.read(min(length, contents.shard.bytes)), manifest.all_features)
