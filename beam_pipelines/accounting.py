"""The account of a build: every input ends as written, skipped or quarantined, and the sums agree."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.errors import StrettoError
from schemas.naming import SPLITS

NO_SPLIT = "-"
STATUSES = ("written", "skipped", "quarantined")
_ROWS = (*SPLITS, NO_SPLIT)


class WrongAccount(StrettoError):
    """The sums do not agree: a fault in this program, found before the dataset was finished."""


@dataclass(frozen=True)
class Account:
    """How many inputs of each split ended how: (split, status, reason) -> inputs. A split of "-" means: none."""

    counts: Mapping[tuple[str, str, str], int]

    def total(self, split: str | None = None, status: str | None = None) -> int:
        """Inputs of a split and a status, where given."""
        return sum(n for (s, t, _), n in self.counts.items() if split in (None, s) and status in (None, t))

    def reasons(self, status: str) -> dict[str, int]:
        """Reason -> inputs with that status, sorted by reason."""
        found: Counter[str] = Counter()
        for (_, of, reason), count in self.counts.items():
            found[reason] += count if of == status else 0
        return {reason: found[reason] for reason in sorted(found) if found[reason]}


def account(lines: Iterable[Mapping[str, Any]]) -> Account:
    """The account of the lines of a ledger."""
    return Account(Counter((line["split"] or NO_SPLIT, line["status"], line["reason"]) for line in lines))


def check_account(ledger: Sequence[Mapping[str, Any]], listed: int, held: Mapping[str, int], bad: int) -> None:
    """Raises WrongAccount unless inputs = written + skipped + quarantined, in total and in every split.

    Args:
        ledger: the lines of items.jsonl.
        listed: how many inputs the listing has.
        held: how many records the shards of each split hold.
        bad: how many inputs the quarantine names.
    """
    names = [line["name"] for line in ledger]
    if len(names) != listed or sorted(set(names)) != names:
        raise WrongAccount(
            f"{listed} inputs were listed, the ledger has {len(names)} lines, {len(set(names))} of them different"
        )
    records: Counter[str] = Counter()
    for line in ledger:
        _check_line(line)
        records[line["split"]] += line["records"]
    for split in sorted({*records, *held}):
        if records[split] != held.get(split, 0):
            raise WrongAccount(
                f"split {split!r}: the ledger counts {records[split]} records, its shards hold {held.get(split, 0)}"
            )
    found = account(ledger)
    ends = [found.total(status=status) for status in STATUSES]
    if sum(ends) != listed or ends[-1] != bad:
        raise WrongAccount(f"{listed} inputs, {' + '.join(map(str, ends))} in the ledger, {bad} in the quarantine")


def _check_line(line: Mapping[str, Any]) -> None:
    written = line["status"] == "written"
    if line["status"] not in STATUSES or written != (line["records"] > 0) or written != (not line["reason"]):
        raise WrongAccount(
            f"{line['name']}: status {line['status']}, reason {line['reason']!r}, {line['records']} records"
        )


def account_to_json(of: Account) -> dict[str, Any]:
    """The account as plain JSON values: totals, reasons, and the same by split."""
    splits = {split: _totals(_part(of, split)) for split in _ROWS if of.total(split)}
    return {**_totals(of), "splits": splits}


def _part(of: Account, split: str) -> Account:
    return Account({key: count for key, count in of.counts.items() if key[0] == split})


def _totals(of: Account) -> dict[str, Any]:
    return {
        "inputs": of.total(),
        "written": of.total(status="written"),
        "skipped": of.reasons("skipped"),
        "quarantined": of.reasons("quarantined"),
    }


def table(of: Account) -> str:
    """The account as lines for people: one row a split, one for the sum, then the reasons."""
    rows = [("split", "inputs", "= written", "+ skipped", "+ quarantined")]
    for split in (*(row for row in _ROWS if of.total(row)), None):
        numbers = (of.total(split, status) for status in (None, *STATUSES))
        rows.append(("total" if split is None else split, *map(str, numbers)))  # type: ignore[arg-type]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(lines + _reason_lines(of))


def _reason_lines(of: Account) -> list[str]:
    return [
        f"{status}: " + ", ".join(f"{reason} {count}" for reason, count in of.reasons(status).items())
        for status in ("skipped", "quarantined")
        if of.total(status=status)
    ]
