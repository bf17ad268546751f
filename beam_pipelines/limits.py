"""Limits in music: how long, how dense, how large an input may be, judged from what the survey measured of it.

| reason               | limit                    | what passes it                                                  |
| -------------------- | ------------------------ | --------------------------------------------------------------- |
| too-large            | `--max-bytes`            | a file that is no performance but an archive, a disk image      |
| too-long             | `--max-seconds`          | a damaged delta time, which makes days                          |
| too-many-notes       | `--max-notes`            | pictures drawn in notes                                         |
| too-dense            | `--max-notes-per-second` | the same, in a short file                                       |
| too-many-controls    | `--max-controls`         | a flood of controllers                                          |
| too-many-tracks      | `--max-tracks`           | an attack on whoever keeps something for each track             |
| too-slow             | `--item-seconds`         | what makes its parser go on for ever (`reading_process`)        |
| too-much-memory      | `--item-megabytes`       | what makes its parser grow (`reading_process`)                  |

None counts ticks: with a fine resolution a sound piece has very many of them. The first six are functions of the input
alone, so that every machine judges alike; the last two depend on the machine, and stand far from what music needs.
"""

from dataclasses import dataclass

import numpy as np

from beam_pipelines.clean import Refusal
from beam_pipelines.config import Build
from schemas.music import Piece

MEASURED = frozenset({"too-large", "too-long", "too-many-notes", "too-dense", "too-many-controls", "too-many-tracks"})
"""Reasons that hang on what was measured of an input: with another limit it need not be read again to be judged."""


@dataclass(frozen=True, slots=True)
class Measures:
    """How much music an input holds.

    Attributes:
        seconds: end of the last note.
        notes: how many there are.
        notes_per_second: how many begin in the busiest second of the clock (from 0 to 1 s, 1 to 2 s, …).
        controls: events of controllers.
        tracks: instruments inside the file.
        hanging_notes: notes that are never released; they are dropped, and counted here.
    """

    seconds: float = 0.0
    notes: int = 0
    notes_per_second: int = 0
    controls: int = 0
    tracks: int = 0
    hanging_notes: int = 0


def measured(piece: Piece) -> Measures:
    """How much music a piece holds."""
    tracks = (int(numbers.max(initial=-1)) + 1 for numbers in (piece.notes.track, piece.controls.track))
    return Measures(
        seconds=piece.seconds,
        notes=len(piece.notes),
        notes_per_second=_busiest_second(piece),
        controls=len(piece.controls),
        tracks=max(tracks),
        hanging_notes=int(piece.labels.get("hanging_notes", 0)),
    )


def _busiest_second(piece: Piece) -> int:
    # Starts are in order, so that each second is one run of equal numbers, however far apart the seconds are.
    seconds = np.floor(piece.start_seconds())
    ends = np.flatnonzero(np.append(seconds[1:] != seconds[:-1], len(seconds) > 0))
    return int(np.diff(ends, prepend=-1).max(initial=0))


def over_limit(build: Build, name: str, size: int, measures: Measures) -> Refusal | None:
    """Which limit of the build an input of so many bytes passes, or None."""
    checks = (
        ("too-large", size, "bytes", "max-bytes", build.max_bytes),
        ("too-many-notes", measures.notes, "notes", "max-notes", build.max_notes),
        ("too-long", measures.seconds, "seconds", "max-seconds", build.max_seconds),
        ("too-dense", measures.notes_per_second, "notes in one second", "max-notes-per-second",
         build.max_notes_per_second),
        ("too-many-controls", measures.controls, "events of controllers", "max-controls", build.max_controls),
        ("too-many-tracks", measures.tracks, "tracks", "max-tracks", build.max_tracks),
    )  # fmt: skip
    for reason, value, unit, flag, limit in checks:
        if not value <= limit:
            return Refusal("quarantined", reason, f"{name}: {value:.10g} {unit}, --{flag} allows {limit:.10g}")
    return None
