"""Refusals of inputs on which their reader failed in a way that nobody foresaw: they cost one input, not the build."""

from beam_pipelines.clean import Refusal
from schemas.errors import place_of


def unexpected(name: str, error: Exception) -> Refusal:
    """The refusal of an input whose reading raised what it should not."""
    return Refusal("quarantined", "unexpected", f"{name}: {type(error).__name__}: {error}, raised by {place_of(error)}")


def too_much_memory(name: str, megabytes: int) -> Refusal:
    """The refusal of an input whose reading takes more memory than it may."""
    message = f"{name}: reading it takes more memory than --item-megabytes {megabytes} allows"
    return Refusal("quarantined", "too-much-memory", message)
