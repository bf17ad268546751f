"""Any folder or zip archive of MIDI files, nested as it may be: .mid, .midi, .kar and .rmi, in capitals or not.

There are no official splits; a group decides. By default each file is a group of its own (folder and name without
extension, so `x.mid` and `x.kar` beside each other stay together); `--group folder` keeps a folder together, for
folders that hold versions of one work. Files named `._*`, which macOS puts beside the real ones, are counted, not read.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from beam_pipelines.corpora.corpus import Item, read_item
from media.midi import read_midi
from media.storage import links_left_out, list_files
from schemas.errors import InputError
from schemas.music import Piece
from schemas.naming import item_name
from schemas.settings import setting

EXTENSIONS = (".mid", ".midi", ".kar", ".rmi")
GROUPS = ("file", "folder")


@dataclass(frozen=True)
class MidiFolder:
    """The corpus `midi`: `--input` is any folder, or a zip archive of one."""

    name: ClassVar[str] = "midi"
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = (
        "not known: that of the files in your folder. Find out before you share what is made of them."
    )
    citation: ClassVar[str] = ""
    where: ClassVar[str] = "any folder or .zip archive with .mid, .midi, .kar or .rmi files, at any depth"
    pitch_range: ClassVar[tuple[int, int]] = (0, 127)
    official_splits: ClassVar[bool] = False
    needs_input: ClassVar[bool] = True
    extra: ClassVar[str | None] = None

    group: str = setting(
        "file", help="what stays in one split: each file, or each folder (versions of one work)", choices=GROUPS
    )

    def items(self, root: str) -> Iterator[Item]:
        """Every MIDI file below the root, sorted by name. Raises InputError for two files with one name."""
        items = sorted((self._item(path) for path in list_files(root) if _is_midi(path)), key=lambda item: item.name)
        for one, next_one in zip(items, items[1:], strict=False):
            if one.name == next_one.name:
                raise InputError(
                    f"{root}: {one.path!r} and {next_one.path!r} differ only in how accents are coded. Rename one."
                )
        yield from items

    def _item(self, path: str) -> Item:
        name = item_name(self.name, path)
        return Item(name, os.path.dirname(name) if self.group == "folder" else os.path.splitext(name)[0], path=path)

    def read(self, item: Item, root: str) -> bytes:
        """The bytes of the item's file. Raises Unreadable."""
        return read_item(item, root)

    def parse(self, item: Item, root: str, data: bytes | None = None) -> Piece:
        """The piece in the file. Raises Unreadable."""
        return read_midi(self.read(item, root) if data is None else data, item.name)

    def ignored(self, root: str) -> dict[str, int]:
        """Files that are no MIDI files, counted by extension; as "(macOS)" those named `._*`, as "(link)" links out."""
        counts = Counter(
            "(macOS)" if _is_shadow(path) else _extension(path) for path in list_files(root) if not _is_midi(path)
        )
        links = len(links_left_out(root))
        return dict(sorted(counts.items())) | ({"(link)": links} if links else {})

    def reports(self, root: str) -> list[str]:
        """Links that were not followed."""
        links = links_left_out(root)
        if not links:
            return []
        return [
            f"{len(links)} links, pipes or devices lead out of the folder and are not read, for example {links[0]!r}"
        ]

    def version_at(self, root: str) -> str:
        """A folder has no version."""
        return self.version


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _is_midi(path: str) -> bool:
    return _extension(path) in EXTENSIONS and not _is_shadow(path)


def _is_shadow(path: str) -> bool:
    # What macOS remembers of a file where its own file system is not at hand; the extension is the file's.
    return os.path.basename(path).startswith("._")
