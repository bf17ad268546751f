"""The listing: every input of a build, streamed in order to numbered parts, so that the graph never holds an item."""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath

from beam_pipelines.config import Build
from beam_pipelines.corpora.corpus import Item, item_from_line, item_line
from beam_pipelines.folder import Folder, replace_file
from media.storage import links_left_out
from schemas.errors import InputError
from schemas.naming import readable

_FIRST_PART_ITEMS = 4
_LARGEST_PART_ITEMS = 1024
_PARTS_OF_ONE_SIZE = 16
_SHOWN = 3


@dataclass(frozen=True)
class Listing:
    """How many items lie in how many parts."""

    parts: int
    items: int


def part_sizes() -> Iterator[int]:
    """Items in each part: few at first, so that a small corpus is spread over many, then more, for a large one."""
    size = _FIRST_PART_ITEMS
    while True:
        for _ in range(_PARTS_OF_ONE_SIZE):
            yield size
        size = min(2 * size, _LARGEST_PART_ITEMS)


def write_listing(build: Build, folder: Folder) -> Listing:
    """Writes the parts. Raises InputError where there is no input, or `--only` names what is not there."""
    items = checked_items(build)
    parts = count = 0
    for size in part_sizes():
        lines = [item_line(item) for item in islice(items, size)]
        if not lines:
            break
        _write_part(folder.items(parts), "\n".join(lines) + "\n")
        parts, count = parts + 1, count + len(lines)
    _remove_parts_from(folder, parts)
    if not count:
        raise no_input(build)
    return Listing(parts, count)


def no_input(build: Build) -> InputError:
    """What to tell a person whose folder holds nothing to read: the links too, which may be all there is."""
    where = readable(build.input or build.corpus.name)
    links = links_left_out(build.input) if build.input else []
    return InputError(
        f"{where}: no input for the corpus {build.corpus.name}. It is read from: {build.corpus.where}."
        + (f" {_of_links(links)}" if links else "")
    )


def _of_links(links: Sequence[str]) -> str:
    are = "1 name there is a link" if len(links) == 1 else f"{len(links)} names there are links"
    return (
        f"{are} out of the folder or to nothing (or pipes, devices), for example {links[0]!r}, and links are not "
        "followed. Copy the files themselves into the folder (cp -rL copies what links lead to), "
        "or give the folder that they lie in."
    )


def checked_items(build: Build) -> Iterator[Item]:
    """The items to read, in order of their names. Raises InputError for names out of order or given twice."""
    last = ""
    for item in _chosen(build):
        if item.name <= last:
            raise InputError(
                f"corpus {build.corpus.name}: {item.name!r} is listed after {last!r}; names must be sorted and unique"
            )
        last = item.name
        yield item


def _chosen(build: Build) -> Iterator[Item]:
    anew = getattr(build.corpus, "items_anew", build.corpus.items)
    items = (build.corpus.items if build.splits == "official" else anew)(build.input)
    return items if build.only is None else _only(build, items, build.only)


def _only(build: Build, items: Iterable[Item], file: str) -> Iterator[Item]:
    wanted = _paths(file)
    if not wanted:
        raise InputError(
            f"{readable(file)}: names no path. Write one a line, relative to the input, or leave --only out."
        )
    missing = dict.fromkeys(wanted)
    for item in items:
        if item.path in wanted:
            missing.pop(item.path, None)
            yield item
    if missing:
        shown = ", ".join(map(repr, list(missing)[:_SHOWN]))
        raise InputError(
            f"{readable(file)}: {len(missing)} of {len(wanted)} paths are no input of the corpus: {shown}. "
            + (_of_links(links) if (links := _links_among(build, missing)) else "Correct the list.")
        )


def _links_among(build: Build, paths: Iterable[str]) -> list[str]:
    """Those of the paths that are links out of the input, or lie behind one."""
    links = set(links_left_out(build.input)) if build.input else set()
    return [path for path in paths if links & {path, *map(str, PurePosixPath(path).parents)}]


def _paths(file: str) -> dict[str, None]:
    try:
        with open(file, encoding="utf-8", errors="surrogateescape", newline="") as lines:
            return dict.fromkeys(path for line in lines if (path := line.rstrip("\r\n")))
    except OSError as error:
        raise InputError(f"{readable(file)}: cannot be read: {error.strerror}. Check --only.") from error


def count_parts(folder: Folder) -> int:
    """How many parts the listing has."""
    return len([name for name in os.listdir(folder.path("items")) if name.endswith(".jsonl")])


def listed_items(folder: Folder) -> int:
    """How many inputs the listing has, counted from its files."""
    return sum(len(read_part(folder, part)[1]) for part in range(count_parts(folder)))


def read_part(folder: Folder, part: int) -> tuple[str, list[Item]]:
    """Checksum and items of one part."""
    with open(folder.items(part), "rb") as file:
        data = file.read()
    return hashlib.sha256(data).hexdigest(), [item_from_line(line) for line in data.decode().splitlines()]


def _write_part(path: str, text: str) -> None:
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        if file.read() == text.encode():
            return
    replace_file(path, text)


def _remove_parts_from(folder: Folder, part: int) -> None:
    while os.path.exists(folder.items(part)):
        os.unlink(folder.items(part))
        part += 1
