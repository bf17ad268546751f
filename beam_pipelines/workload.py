"""How much work a build is, estimated from the sizes of files, and how many processes that is worth."""

import os
from itertools import islice

from beam_pipelines.config import Build
from beam_pipelines.decide import copies_of
from beam_pipelines.folder import Folder
from beam_pipelines.listing import Listing, read_part
from media.storage import size_of

_SAMPLED_PARTS = 32
# Measured on MAESTRO with events: reading and judging a byte twice, and encoding it once more for each copy.
_SECONDS_PER_BYTE = 2e-7
_SECONDS_PER_COPIED_BYTE = 1.5e-8
# A process takes three to five seconds to start, so that it must have clearly more to do than that.
_WORTH_SECONDS = 8.0


def sensible_workers(build: Build, folder: Folder, listing: Listing) -> int:
    """One process for each eight seconds of work, at most one a core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(estimated_seconds(build, folder, listing) / _WORTH_SECONDS)))


def estimated_seconds(build: Build, folder: Folder, listing: Listing) -> float:
    """CPU seconds of a build, from the sizes of some of its files."""
    step = max(1, listing.parts // _SAMPLED_PARTS)
    sizes = [
        size_of(build.input, item.path)
        for part in islice(range(0, listing.parts, step), _SAMPLED_PARTS)
        for item in read_part(folder, part)[1]
    ]
    size = sum(sizes) / max(1, len(sizes)) * listing.items
    return size * (_SECONDS_PER_BYTE + _SECONDS_PER_COPIED_BYTE * copies_of(build, "train"))
