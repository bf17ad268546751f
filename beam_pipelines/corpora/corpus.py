"""What a corpus is: the Item it lists, the protocol it keeps, and the one way files under its root are read."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import ClassVar, Protocol

from media.storage import read_below
from schemas.errors import Unreadable
from schemas.music import Piece

# The longest real MIDI file known to us is under 10 MB; what is larger is no music, and reading it could fill a worker.
LARGEST_FILE = 64 * 1024 * 1024


@dataclass(frozen=True)
class Item:
    """One input of a build: a music file, or one piece inside a file.

    Attributes:
        name: `schemas.naming.item_name` of corpus, path and part; unique in a build.
        group: what must stay in one split together (a composition, a folder, a tune).
        split: the corpus's own split ("train", "validation", "test"), or "" where it has none.
        path: the file, relative to the root, with "/" between folders; undecodable bytes as surrogate escapes.
        part: names the piece inside the file, "" for the whole file.
        refused: why the listing itself already refuses the item, as "reason: sentence"; `read` and `parse` then raise
            Unreadable.
    """

    name: str
    group: str
    split: str = ""
    path: str = ""
    part: str = ""
    refused: str = ""


def item_line(item: Item) -> str:
    """The item as one line of JSON, without the line end; ASCII only, so that odd file names survive."""
    return json.dumps(asdict(item), sort_keys=True, separators=(",", ":"))


def item_from_line(line: str) -> Item:
    """The item that `item_line` wrote."""
    return Item(**json.loads(line))


class Skip(Exception):
    """Raised by `parse` for a sound input that is not wanted: "skipped", never counted against `--max-bad`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Corpus(Protocol):
    """A corpus: a frozen dataclass whose fields are its settings; listing and parsing import no Beam.

    Two things only a corpus with official splits may have: `items_anew`, the items with the groups that hold where
    splits are made anew, if the official ones are made by smaller groups; and `whole_splits = True`, if its official
    splits are a published benchmark: music that it puts into two of them is then written all the same, and `verify`
    reports the group, or the pair where they are of two groups, as known.

    One whose `--input` is not a folder or a .zip archive that holds it has `takes`, which says what it is instead:
    {"metavar": ..., "help": ...} for `prepare NAME --help`.

    Attributes:
        name: the name on the command line and at the front of every key.
        version: what is read ("1.0.0 to 3.0.0"); `version_at` says which one lies in a folder.
        licence: the licence of the data, in words, with where it is written.
        citation: a BibTeX entry, or "" where there is nobody to cite.
        where: how to get the data, one sentence.
        pitch_range: lowest and highest pitch of the instrument, inclusive; a variant that leaves it is dropped.
        official_splits: whether items carry the corpus's own splits.
        needs_input: whether `--input` must be given.
        extra: the optional extra of this package that parsing needs, or None.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    where: ClassVar[str]
    pitch_range: ClassVar[tuple[int, int]]
    official_splits: ClassVar[bool]
    needs_input: ClassVar[bool]
    extra: ClassVar[str | None]

    def items(self, root: str) -> Iterator[Item]:
        """Every input below the root, sorted by name. Raises InputError where it cannot be read as this corpus."""
        ...

    def read(self, item: Item, root: str) -> bytes:
        """The bytes of the item's file; raises Unreadable (`missing-file`, `path-escapes-root`, `too-large`...)."""
        ...

    def parse(self, item: Item, root: str, data: bytes | None = None) -> Piece:
        """The item's music; `data` is what `read` returned, where the caller has it.

        Raises:
            Unreadable: the item is quarantined, with the reason.
            Skip: the item is skipped, with the reason.
        """
        ...

    def ignored(self, root: str) -> dict[str, int]:
        """Files that the corpus does not read, counted by extension in lower case (".txt", "" for none)."""
        ...

    def reports(self, root: str) -> list[str]:
        """What the user should know about this copy of the corpus, one sentence each (csv and json disagree...)."""
        ...

    def version_at(self, root: str) -> str:
        """The version that lies in the root."""
        ...


def read_item(item: Item, root: str) -> bytes:
    """The bytes of an item's file. Raises Unreadable, with the listing's reason where that refused the item."""
    if item.refused:
        reason, _, message = item.refused.partition(": ")
        raise Unreadable(reason, message)
    return read_file(root, item.path)


def read_file(root: str, path: str, limit: int = LARGEST_FILE) -> bytes:
    """The bytes of a regular file below the root, which is a folder or an archive. Raises what `read_below` raises."""
    return read_below(root, path, limit)
