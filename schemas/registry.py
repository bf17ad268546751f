"""Plain dicts of name -> "module:Class": look one up, suggest the nearest name, import only what was chosen."""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from schemas.errors import UsageError


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The known name closest to a misspelt one, or None where nothing is close."""
    found = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)
    return found[0] if found else None


def check_name(name: str, names: Iterable[str], kind: str) -> None:
    """Raises UsageError with the nearest name and all names, unless `name` is one of them."""
    known = sorted(names)
    if name in known:
        return
    guess = nearest(name, known)
    hint = f" Did you mean {guess!r}?" if guess else ""
    raise UsageError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known)}.")


def resolve(registry: Mapping[str, str], name: str, kind: str) -> Any:
    """The class behind a name. Raises UsageError for an unknown name."""
    check_name(name, registry, kind)
    module, _, attribute = registry[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
