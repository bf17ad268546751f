"""Copies that a published benchmark itself has in two splits, found beforehand as `verify` will find them in shards.

A representation may tell less than the corpus: on a grid of quarters two chorales that differ in their sixteenths are
one. So each piece is read again, written and decoded as its shard will hold it, and compared by the same rules
(`split.leaks`, `split.near_leaks`). The pairs stand in the manifest by the names of both: `verify` reports these as
known, and no others. They are told from the corpus, not from shards, so a fault in writing shards excuses nothing.
"""

from collections.abc import Callable, Iterable

from beam_pipelines.augment import Variants, from_original, variants_of
from beam_pipelines.config import Build
from beam_pipelines.encode import Encoder, encode
from beam_pipelines.fingerprints import exact_fingerprint, sketch
from beam_pipelines.split import leaks, near_leaks
from beam_pipelines.survey import Report, surveyed_piece
from schemas.feature import RecordError
from schemas.music import Piece

Pair = tuple[str, str]


def keeps_all(build: Build) -> bool:
    """Whether the build leaves out nothing that its corpus has in two splits: they are a benchmark, and official."""
    return build.splits == "official" and getattr(build.corpus, "whole_splits", False)


def crossing_copies(build: Build, written: Iterable[tuple[Report, str]], alive: Callable[[], None]) -> tuple[Pair, ...]:
    """Pairs (name, name of its original in a split that goes before) of two groups, sorted; `written` has the splits.

    A group that crosses the splits is known already (`split.crossing_groups`). `alive` is called for every piece read.
    """
    if not keeps_all(build):
        return ()
    pieces = {report.item.name: (report, split) for report, split in written}

    def load(name: str) -> Piece | None:
        alive()
        return _as_decoded(build, *pieces[name])

    prints, sketches = [], []
    for name, (_, split) in pieces.items():
        piece = load(name)
        if piece is not None:
            prints.append((name, split, exact_fingerprint(piece)))
            sketches.append((name, split, sketch(piece)))
    found = {*leaks(prints).items(), *((name, leak.keeper) for name, leak in near_leaks(sketches, load))}
    group = {name: report.item.group for name, (report, _) in pieces.items()}
    return tuple(sorted((name, keeper) for name, keeper in found if group[name] != group[keeper]))


def _as_decoded(build: Build, report: Report, split: str) -> Piece | None:
    """What the records of a piece say of it, by the copy that is nearest to the original; None where there are none."""
    piece = surveyed_piece(build, report)
    if piece is None:
        return None
    variants = variants_of(split, build.transpose, build.stretch, build.corpus.pitch_range)
    for semitones, factor in sorted(variants.pairs, key=lambda pair: from_original(*pair)):
        one = Encoder(build.representation, Variants((semitones,), (factor,), variants.pitch_range))
        try:
            for copy in encode(one, piece)[2]:
                return build.representation.decode(copy.records)
        except (ArithmeticError, LookupError, TypeError, ValueError, RecordError):
            return None  # its shard will say why
    return None
