"""One encoding a file. A name here is a value of `--representation`."""

from collections.abc import Mapping
from typing import Any

from schemas.registry import resolve
from schemas.settings import from_json

REPRESENTATIONS = {
    "events": "schemas.representations.events:Events",
}


def from_settings(name: str, settings: Mapping[str, Any]) -> Any:
    """The representation that a manifest describes. Raises UsageError for a name or setting that does not exist."""
    return from_json(resolve(REPRESENTATIONS, name, "representation"), dict(settings))
