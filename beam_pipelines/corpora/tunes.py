"""Hymn tunes: which chorales sing the same one, so that none of its harmonisations crosses a split made here."""

from collections.abc import Iterable, Mapping, Sequence

_OPENING_PITCHES = 8


def group_tunes(traits: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """The smallest name among all that are linked by shared traits, for each name."""
    parent = {name: name for name in traits}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    holder: dict[str, str] = {}
    for name in sorted(traits):
        for trait in traits[name]:
            smaller, larger = sorted((root(name), root(holder.setdefault(trait, name))))
            parent[larger] = smaller
    return {name: root(name) for name in traits}


def opening(pitches: Sequence[int]) -> str:
    """A melody's first eight pitches on the beat as a trait, as semitones above the first; "" for a fragment."""
    first = pitches[:_OPENING_PITCHES]
    if len(first) < _OPENING_PITCHES:
        return ""
    return "opening " + " ".join(str(pitch - first[0]) for pitch in first)
