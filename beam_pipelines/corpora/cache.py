"""A cache of what is slow to parse: plain JSON in the user's cache folder, checked when read, never needed."""

import contextlib
import json
import os
from typing import Any

from schemas.documents import read_json
from schemas.errors import InputError
from schemas.hashing import fingerprint

_LARGEST_ENTRY = 16 * 1024 * 1024


def cache_folder() -> str:
    """`$XDG_CACHE_HOME/stretto`, or `~/.cache/stretto`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "stretto")


def read_entry(path: str) -> Any:
    """What `write_entry` stored, or None where there is nothing or it is damaged (it is then made again)."""
    try:
        stored = read_json(path, _LARGEST_ENTRY)
        return stored["content"] if stored["sha256"] == fingerprint(stored["content"]) else None
    except (InputError, KeyError, TypeError):
        return None


def write_entry(path: str, content: Any) -> None:
    """Stores JSON values with their checksum, whole or not at all; without a place to write, nothing is stored."""
    text = json.dumps({"sha256": fingerprint(content), "content": content}, separators=(",", ":"), ensure_ascii=False)
    scratch = f"{path}.tmp-{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(scratch, "w", encoding="utf-8") as file:
            file.write(text)
        # Not synced: an entry that a power cut damages fails its checksum and is made again.
        os.replace(scratch, path)
    except OSError:
        # A read-only home or a full disk costs time, not correctness: the next run parses again.
        with contextlib.suppress(OSError):
            os.unlink(scratch)
