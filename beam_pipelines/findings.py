"""What is wrong with a dataset: findings with the place of each, and the report that `stretto verify` prints."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from schemas.errors import VerificationError

_MOST_OF_A_KIND = 100


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
    """

    kind: str
    message: str
    file: str = ""
    record: int | None = None
    offset: int | None = None
    key: str = ""

    def __str__(self) -> str:
        place = [self.file] if self.file else []
        place += [f"record {self.record}"] if self.record is not None else []
        place += [f"byte {self.offset}"] if self.offset is not None else []
        place += [self.key] if self.key else []
        return f"{self.kind}: {', '.join(place)}{': ' if place else ''}{self.message}"


@dataclass
class Findings:
    """Gathers findings; of one kind only the first hundred are kept, all are counted."""

    kept: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, message: str, file: str = "", **place: Any) -> None:
        """Notes one thing that is wrong; `place` is record, offset and key."""
        self.counts[kind] += 1
        if self.counts[kind] <= _MOST_OF_A_KIND:
            self.kept.append(Finding(kind, message, file, **place))


@dataclass(frozen=True)
class Report:
    """The outcome of `verify`.

    Attributes:
        folder: the dataset.
        findings: what is wrong; of one kind at most a hundred.
        counts: how many there are of each kind.
        known: what is not as one would wish, but as the manifest says: groups that the corpus itself lets cross its
            splits.
        checked: how many shards, records, items, originals and bytes were looked at.
    """

    folder: str
    findings: tuple[Finding, ...]
    counts: dict[str, int]
    known: tuple[str, ...]
    checked: dict[str, int]

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
            "known": list(self.known),
            "checked": self.checked,
        }

    def lines(self) -> Iterator[str]:
        """The report as lines of text, findings first, the verdict last."""
        yield from map(str, self.findings)
        for kind, count in sorted(self.counts.items()):
            if count > _MOST_OF_A_KIND:
                yield f"{kind}: {count - _MOST_OF_A_KIND} more of this kind"
        for group in self.known:
            yield f"known: group {group!r} is in several splits of the corpus itself"
        checked = ", ".join(f"{value:,} {name}" for name, value in self.checked.items())
        verdict = f"{sum(self.counts.values()):,} findings" if self.counts else "nothing wrong"
        yield f"{self.folder}: {verdict}; checked {checked}"
