"""How many heaps the C library divides memory into: one for each core, so that memory stops growing soon.

glibc lets a process have eight for each core, and each keeps pieces of what was freed in it. Threads that write
checkpoints visit them all: with the smallest network on two cores 110 MiB more after 75 checkpoints, 18 with two heaps.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

_M_ARENA_MAX = -8  # <malloc.h>
_LEAST = 2


def limit_heaps(environment: Mapping[str, str]) -> bool:
    """Allows this process one heap for each core from now on, unless the environment says how many.

    Returns whether there is a limit now: musl and macOS have no such heaps.
    """
    if "MALLOC_ARENA_MAX" in environment or "glibc.malloc.arena_max" in environment.get("GLIBC_TUNABLES", ""):
        return True
    limit = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return limit is not None and limit(_M_ARENA_MAX, max(_LEAST, os.cpu_count() or 1)) == 1
