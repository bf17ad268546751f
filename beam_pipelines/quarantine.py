"""Quarantine: what is known of each bad input, and how many bad inputs a build bears."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schemas.errors import InputError

QUARANTINE = "quarantine/quarantine.jsonl"
_SHOWN = 5


def quarantine_lines(entries: Iterable[Mapping[str, Any]]) -> str:
    """The text of quarantine.jsonl: of each bad input what it is, why it is bad, and where in it, as far as known."""
    return "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in entries)


def allowed_bad(allowance: str, inputs: int) -> float:
    """How many of the inputs may be bad, for `N` or `N%`."""
    return float(allowance[:-1]) / 100 * inputs if allowance.endswith("%") else float(allowance)


def check_allowance(bad: Sequence[Mapping[str, Any]], inputs: int, allowance: str, source: str, where: str) -> None:
    """Raises InputError where more inputs of a source are bad than allowed, naming some and the file that names all."""
    if len(bad) <= allowed_bad(allowance, inputs):
        return
    shown = "".join(f"\n  {entry['name']}: {entry['reason']}" for entry in bad[:_SHOWN])
    more = f"\n  and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    raise InputError(
        f"{source}: {len(bad)} of {inputs} inputs are bad, --max-bad {allowance} allows "
        f"{allowed_bad(allowance, inputs):g}. All are named in {where}.{shown}{more}\n"
        "Nothing was finished. Repair or remove them, or allow more: the same command with more --max-bad continues."
    )
