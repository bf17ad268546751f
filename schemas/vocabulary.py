"""Vocabulary: ranges of events laid end to end; an id is an offset plus a value.

The one table gives sizes, masks, encoding, decoding and error messages, so none of them can disagree.
"""

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Range:
    """One kind of event with its smallest and largest value, both included."""

    name: str
    minimum: int
    maximum: int

    @property
    def size(self) -> int:
        """How many values there are."""
        return self.maximum - self.minimum + 1


@dataclass(frozen=True)
class Vocabulary:
    """Ranges in order. The ids after the last range are BOS and PAD."""

    ranges: tuple[Range, ...]

    @cached_property
    def offsets(self) -> dict[str, int]:
        """First id of each range."""
        offsets, start = {}, 0
        for item in self.ranges:
            offsets[item.name] = start
            start += item.size
        return offsets

    @cached_property
    def size(self) -> int:
        """How many event ids there are, without BOS and PAD."""
        return sum(item.size for item in self.ranges)

    @property
    def bos(self) -> int:
        """The id that stands for "no context"."""
        return self.size

    @property
    def pad(self) -> int:
        """The id that fills a record after its last event."""
        return self.size + 1

    def range_of(self, name: str) -> Range:
        """The range of a name. Raises KeyError."""
        for item in self.ranges:
            if item.name == name:
                return item
        raise KeyError(f"no range {name!r}; known: {', '.join(self.offsets)}")

    def encode(self, name: str, value: int) -> int:
        """The id of one event. Raises ValueError for a value outside its range."""
        item = self.range_of(name)
        if not item.minimum <= value <= item.maximum:
            raise ValueError(f"{name} {value} is outside {item.minimum}..{item.maximum}")
        return self.offsets[name] + value - item.minimum

    def decode(self, token: int) -> tuple[str, int]:
        """Name and value of an id. Raises ValueError for an id that is no event."""
        for item in self.ranges:
            start = self.offsets[item.name]
            if start <= token < start + item.size:
                return item.name, token - start + item.minimum
        raise ValueError(f"id {token} is no event: events are 0..{self.size - 1}")

    def base(self, name: str) -> int:
        """What is added to a value of this range to make its id, for whole arrays at once."""
        return self.offsets[name] - self.range_of(name).minimum
