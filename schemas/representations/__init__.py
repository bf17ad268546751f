"""One encoding a file. A name here is a value of `--representation`."""

from collections.abc import Mapping
from typing import Any

from schemas.errors import UsageError
from schemas.registry import resolve
from schemas.settings import from_json

REPRESENTATIONS = {
    "events": "schemas.representations.events:Events",
    "raster": "schemas.representations.raster:Raster",
    "voices": "schemas.representations.voices:Voices",
}


def from_settings(name: str, settings: Mapping[str, Any]) -> Any:
    """The representation that a manifest describes.

    Raises:
        UsageError: there is no such representation or setting, or a setting cannot have this value.
    """
    kind = resolve(REPRESENTATIONS, name, "representation")
    try:
        return from_json(kind, dict(settings))
    except (TypeError, ValueError) as error:
        raise UsageError(f"representation {name}: {error}. Its settings are {dict(settings)!s:.200}") from error
