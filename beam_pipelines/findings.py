"""What is wrong with a dataset: findings with the place of each, and the report that `stretto verify` prints.

One flipped byte is many findings: a record that cannot be read is also missing in statistics, ledger and counts. What
is told from a file that was found damaged itself `follows`: it is reported behind the causes, and summed up for people.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from schemas.errors import MachineError, VerificationError

_MOST_OF_A_KIND = 100
_DAMAGE = frozenset("missing unreadable size sha256 completed manifest framing checksum features key index".split())
"""Kinds that say of a file that not all of it is what was written, so that what is told from it may be wrong."""


def refuse_forbidden(path: str, error: BaseException | None) -> None:
    """Raises MachineError where the system does not let us read: that says nothing of the dataset."""
    if isinstance(error, PermissionError):
        raise MachineError(
            f"{path}: may not be read: {error.strerror}. Give yourself that permission, or verify as one who has it."
        ) from error


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: a short word, for example `sha256`, `checksum`, `order`, `leak`.
        message: one sentence.
        file: path below the dataset, "" where no single file is meant.
        record: number of the record in its shard, from 0.
        offset: byte in the shard where the record's framing begins.
        key: the record's key, or an item's name.
        follows: it is told from a file that another finding calls damaged, and may be nothing but the damage.
    """

    kind: str
    message: str
    file: str = ""
    record: int | None = None
    offset: int | None = None
    key: str = ""
    follows: bool = False

    def __str__(self) -> str:
        place = [self.file] if self.file else []
        place += [f"record {self.record}"] if self.record is not None else []
        place += [f"byte {self.offset}"] if self.offset is not None else []
        place += [self.key] if self.key else []
        return f"{self.kind}: {', '.join(place)}{': ' if place else ''}{self.message}"


@dataclass
class Findings:
    """Gathers findings; of one kind only the first hundred are kept, of what follows too; all are counted.

    Attributes:
        kept: findings in the order in which they were made.
        counts: how many there are of each kind.
        following: how many of these follow from another one.
        damaged: files that were found damaged.
        known: what would be findings, if the manifest did not say that the corpus itself has it so.
    """

    kept: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    following: Counter[str] = field(default_factory=Counter)
    damaged: set[str] = field(default_factory=set)
    known: list[Finding] = field(default_factory=list)

    def add(self, kind: str, message: str, file: str = "", told_from: Iterable[str] = (), **place: Any) -> None:
        """Notes one thing that is wrong; `place` is record, offset and key.

        Args:
            kind: as in `Finding`.
            message: as in `Finding`.
            file: as in `Finding`.
            told_from: the files that were compared; where one of them is damaged, the finding follows from that.
            place: the rest of `Finding`.
        """
        follows = not self.damaged.isdisjoint(told_from)
        self.counts[kind] += 1
        self.following[kind] += follows
        if (self.following[kind] if follows else self.counts[kind] - self.following[kind]) <= _MOST_OF_A_KIND:
            self.kept.append(Finding(kind, message, file, follows=follows, **place))
        if kind in _DAMAGE and file and not follows:
            self.damaged.add(file)

    def causes_first(self) -> tuple[Finding, ...]:
        """Those that were kept: first what does not follow from another one."""
        return tuple(sorted(self.kept, key=lambda finding: finding.follows))


@dataclass(frozen=True)
class Report:
    """The outcome of `verify`.

    Attributes:
        folder: the dataset.
        findings: what is wrong, causes first; of one kind at most a hundred causes, and as many that follow.
        counts: how many there are of each kind.
        following: how many of these follow from another one.
        known: what is not as one would wish, but as the manifest says: groups that the corpus itself lets cross its
            splits.
        checked: how many shards, records, items, originals and bytes were looked at.
        known_copies: the same of single pieces: copies that the corpus itself has in another split.
    """

    folder: str
    findings: tuple[Finding, ...]
    counts: dict[str, int]
    following: dict[str, int]
    known: tuple[str, ...]
    checked: dict[str, int]
    known_copies: tuple[Finding, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 where nothing is wrong, else 5."""
        return VerificationError.exit_code if self.counts else 0

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "folder": self.folder,
            "ok": not self.counts,
            "findings": [asdict(finding) for finding in self.findings],
            "counts": self.counts,
            "following": self.following,
            "known": list(self.known),
            "known_copies": [asdict(finding) for finding in self.known_copies],
            "checked": self.checked,
        }

    def lines(self) -> Iterator[str]:
        """The report as lines of text: causes, a sentence on what follows from them, and the verdict last."""
        yield from (str(finding) for finding in self.findings if not finding.follows)
        for kind, count in sorted(self.counts.items()):
            more = count - self.following.get(kind, 0) - _MOST_OF_A_KIND
            if more > 0:
                yield f"{kind}: {more} more of this kind"
        follow = sum(self.following.values())
        if follow:
            of_kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.following.items())
            yield f"{follow:,} more follow from damaged files, and may go with the damage: {of_kinds} (see --json)"
        for group in self.known:
            yield f"known: group {group!r} is in several splits of the corpus itself"
        for copy in self.known_copies:
            yield f"known: {copy.key}: {copy.message}; the corpus itself has both"
        checked = ", ".join(f"{value:,} {name}" for name, value in self.checked.items())
        yield f"{self.folder}: {self._verdict(follow)}; checked {checked}"

    def _verdict(self, follow: int) -> str:
        if not self.counts:
            return "nothing wrong"
        total = sum(self.counts.values())
        return f"{total - follow:,} findings" + (f" and {follow:,} that follow" if follow else "")
