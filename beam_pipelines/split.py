"""Splits: decided by group before anything is copied or cut, so that no composition is trained on and tested on.

Official splits are kept. Own ones: u = hash(seed, group, "split") / 2^64 against the cumulated fractions of train,
validation and test, where groups whose pieces are the same music (in another key or tempo, played louder, begun later)
are merged first and go by their smallest name.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from beam_pipelines.alignment import Copy, copy_of
from beam_pipelines.near_copies import Index, Sharer, agree, alike, worth_a_look
from schemas.hashing import stable_hash, uniform
from schemas.music import Piece
from schemas.naming import SPLITS

PRECEDENCE = ("test", "validation", "train")
"""Which split keeps a piece that lies in several: what is measured on must not change for the sake of training."""

_TRIED = 8
"""How many likely originals a piece is compared with: the true one shares more than any other."""
_LOADED = 64


def own_split(seed: int, group: str, fractions: Sequence[float]) -> str:
    """The split of a group: fractions are the shares of train, validation and test."""
    u, reached = uniform(seed, group, "split"), 0.0
    for split, fraction in zip(SPLITS, fractions, strict=True):
        reached += fraction
        if u < reached:
            return split
    # The fractions may add up to a hair below 1: the last split that has a share takes the rest.
    return [split for split, fraction in zip(SPLITS, fractions, strict=True) if fraction][-1]


def merged_groups(pieces: Iterable[tuple[str, str] | tuple[str, str, str]]) -> dict[str, str]:
    """Group -> smallest name of the groups joined by the same music; pieces are (group, fingerprint, sketch).

    Joined are groups with pieces of one fingerprint, and groups with pieces whose sketches agree: a quarter of the
    smaller sketch and three hashes at least (`near_copies`, where the figures stand).
    """
    known = list(pieces)
    parent = {piece[0]: piece[0] for piece in known}
    first: dict[str, str] = {}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    def join(one: str, other: str) -> None:
        smaller, larger = sorted((root(one), root(other)))
        parent[larger] = smaller

    for group, fingerprint, *_ in known:
        join(group, first.setdefault(fingerprint, group))
    for earlier, later in alike([piece[2] if len(piece) > 2 else "" for piece in known]):
        join(known[earlier][0], known[later][0])
    return {group: root(group) for group in parent}


def crossing_groups(pieces: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Groups that lie in more than one split, sorted; pieces are (group, split)."""
    splits: dict[str, set[str]] = defaultdict(set)
    for group, split in pieces:
        splits[group].add(split)
    return tuple(sorted(group for group, found in splits.items() if len(found) > 1))


def duplicates(pieces: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    """Name -> name of the piece that is written instead; pieces are (name, split, exact fingerprint)."""
    kept: dict[str, str] = {}
    dropped = {}
    for name, _, exact in sorted(pieces, key=lambda piece: (_rank(piece[1]), piece[0])):
        if exact in kept:
            dropped[name] = kept[exact]
        kept.setdefault(exact, name)
    return dropped


def leaks(pieces: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    """Name -> name of the same music in a split that goes before; pieces are (name, split, fingerprint)."""
    kept: dict[str, tuple[str, str]] = {}
    leaking = {}
    for name, split, music in sorted(pieces, key=lambda piece: (_rank(piece[1]), piece[0])):
        keeper, keeper_split = kept.setdefault(music, (name, split))
        if keeper_split != split:
            leaking[name] = keeper
    return leaking


@dataclass(frozen=True)
class NearLeak:
    """A piece that is in another split too: the name of the piece there, and how that became this one."""

    keeper: str
    copy: Copy


def near_leaks(
    pieces: Iterable[tuple[str, str, str]], load: Callable[[str], Piece | None], also_of_leaking: bool = True
) -> Iterator[tuple[str, NearLeak]]:
    """Names of pieces that are copies of one in a split that goes before; pieces are (name, split, sketch).

    Sketches say only which pairs to look at, but where one is a part of the other they must agree: what `merged_groups`
    would not have kept together is no leak. `load` gives a piece by its name (None: it cannot be read any more) and is
    asked for at most nine pieces for each that shares anything with another split. Copies of copies are found where
    `also_of_leaking`; not where a piece that leaks is left out, and so leaks nowhere.
    """
    loaded = lru_cache(_LOADED)(load)
    ordered = sorted(pieces, key=lambda piece: (_rank(piece[1]), piece[0]))
    names = [name for name, *_ in ordered]
    index = Index([text for *_, text in ordered])
    for _, of_split in groupby(range(len(ordered)), key=lambda number: ordered[number][1]):
        numbers, leaking = list(of_split), set()
        for number in numbers:
            likely = index.sharing(ordered[number][2], worth_a_look)[:_TRIED]
            leak = _near_leak(names[number], likely, names, loaded)
            if leak:
                leaking.add(number)
                yield names[number], leak
        for number in numbers if also_of_leaking else (number for number in numbers if number not in leaking):
            index.add(number, ordered[number][2])


def _near_leak(
    name: str, likely: Iterable[Sharer], names: Sequence[str], load: Callable[[str], Piece | None]
) -> NearLeak | None:
    """The first of the likely originals that a piece is a copy of."""
    for sharer in likely:
        keeper, piece = load(names[sharer.number]), load(name)
        copy = copy_of(keeper, piece) if keeper is not None and piece is not None else None
        if copy and (copy.is_whole or agree(sharer.shared, sharer.smaller)):
            return NearLeak(names[sharer.number], copy)
    return None


def _rank(split: str) -> int:
    return PRECEDENCE.index(split) if split in PRECEDENCE else len(PRECEDENCE)


def dealt(names: Iterable[str], shards: int) -> dict[str, int]:
    """Name -> shard: names in order of their stable hash, dealt out in turn."""
    ordered = sorted(names, key=lambda name: (stable_hash(name), name))
    return {name: rank % shards for rank, name in enumerate(ordered)}
