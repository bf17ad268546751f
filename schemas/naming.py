"""Names that grow along the road: item, copy, window; and the names of files.

An item is `corpus/path.midi` or `corpus/archive.zip!part`; a copy of it `item#+3@1.025`; a window of that
`copy/00012`. So every record can be traced to its file by reading its key.
"""

import re
import unicodedata
from dataclasses import dataclass

SPLITS = ("train", "validation", "test")
_RESERVED = frozenset("#@%!")
_COPY = re.compile(r"(?P<item>[^#@]+)#(?P<semitones>[+-][0-9]+)@(?P<stretch>[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?)")
_SHARD = re.compile(
    r"(?P<corpus>.+)-(?P<split>train|validation|test)\.tfrecord-(?P<index>[0-9]{5,})-of-(?P<total>[0-9]{5,})"
)


@dataclass(frozen=True)
class Key:
    """A record's key, taken apart."""

    item: str
    semitones: int
    stretch: float
    window: int

    @property
    def is_original(self) -> bool:
        """Whether the copy is the piece as it stands in its file."""
        return self.semitones == 0 and self.stretch == 1


def item_name(corpus: str, relative_path: str, part: str = "") -> str:
    """The name of an item: NFC, `/`-separated; reserved, control and undecodable bytes percent-encoded.

    Undecodable bytes are expected as surrogates, the way `os.fsdecode` gives them.
    """
    name = f"{corpus}/{_encoded(relative_path)}"
    return f"{name}!{_encoded(part)}" if part else name


def _encoded(text: str) -> str:
    return "".join(map(_encoded_character, unicodedata.normalize("NFC", text)))


def _encoded_character(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"%{code - 0xDC00:02X}"
    if character in _RESERVED or unicodedata.category(character) in ("Cc", "Cs"):
        return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
    return character


def readable(text: str) -> str:
    """A text on one line that can do no harm on a screen: control and undecodable characters are spelt out."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def copy_key(item: str, semitones: int, stretch: float) -> str:
    """The key of one copy of an item: `item#+0@1` is the original."""
    return f"{item}#{semitones:+d}@{shortest_decimal(stretch)}"


def shortest_decimal(value: float) -> str:
    """The shortest text that reads back as the same number, without a trailing `.0`."""
    text = repr(float(value))
    return text[:-2] if text.endswith(".0") else text


def window_key(copy: str, index: int) -> str:
    """The key of one window of a copy."""
    return f"{copy}/{index:05d}"


def parse_key(key: str) -> Key:
    """A key taken apart. Raises ValueError for anything that is no key."""
    copy, slash, window = key.rpartition("/")
    match = _COPY.fullmatch(copy)
    if not slash or match is None or re.fullmatch(r"[0-9]{5,}", window) is None:
        raise ValueError(f"{key!r} is no record key: expected item#+semitones@stretch/window, window of five digits")
    return Key(match["item"], int(match["semitones"]), float(match["stretch"]), int(window))


def shard_name(corpus: str, split: str, index: int, total: int) -> str:
    """The file name of one shard."""
    return f"{corpus}-{split}.tfrecord-{index:05d}-of-{total:05d}"


def parse_shard_name(name: str) -> tuple[str, str, int, int]:
    """Corpus, split, index and total of a shard's file name. Raises ValueError for anything else."""
    match = _SHARD.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no shard name: expected corpus-split.tfrecord-00000-of-00001")
    return match["corpus"], match["split"], int(match["index"]), int(match["total"])


def index_name(shard: str) -> str:
    """The path of a shard's index below the dataset: a folder of its own, so that a glob over shards misses it."""
    return f"index/{shard}.idx"
