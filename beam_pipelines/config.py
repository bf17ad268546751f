"""Build: every choice of one dataset build, frozen, and the fingerprint that says whether two builds are the same."""

import dataclasses
import hashlib
import importlib.metadata
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from beam_pipelines.corpora import CORPORA
from beam_pipelines.corpora.corpus import LARGEST_FILE, Corpus
from schemas.errors import UsageError
from schemas.hashing import fingerprint
from schemas.naming import SPLITS, readable
from schemas.registry import resolve
from schemas.representation import Representation
from schemas.representations import REPRESENTATIONS, from_settings
from schemas.settings import from_json, parse_integers, parse_numbers, setting, to_json

LIMITS = frozenset(
    {"max_seconds", "max_notes", "max_notes_per_second", "max_controls", "max_tracks", "max_bytes", "item_seconds",
     "item_megabytes"}
)  # fmt: skip
"""Choices that decide which inputs are taken, and nothing about the bytes of those that are."""

_WRITING = ("augment", "encode", "statistics", "write")
_LONGEST_VALUE = 100
BUILDING = ".building"
DEFAULT_FRACTIONS = (0.8, 0.1, 0.1)
LOCAL_RUNNERS = ("DirectRunner", "FnApiRunner")

# What may differ between a killed build and its continuation without changing a byte of the result. `--only` and the
# paths are watched by content: the listing of inputs is compared, and each file's sha256.
FREE = frozenset(
    {"input", "output", "only", "workers", "runner", "max_bad", "overwrite", "dry_run", "retry_quarantined"}
)


def parse_splits(text: str) -> str:
    """`official`, `composition` or fractions that add up to 1. Raises ValueError for anything else."""
    if text not in ("official", "composition"):
        _fractions(text)
    return text


def _fractions(text: str) -> tuple[float, ...]:
    parts = [re.fullmatch(r"\s*([a-z]+)\s*=\s*([0-9.eE+-]+)\s*", part) for part in text.split(",")]
    given = {part[1]: float(part[2]) for part in parts if part}
    if len(given) != len(parts) or not set(given) <= set(SPLITS):
        raise ValueError(f"{text!r}: write official, composition, or for example train=0.8,validation=0.1,test=0.1")
    if min(given.values()) < 0 or abs(sum(given.values()) - 1) > 1e-9:
        raise ValueError(
            f"{text!r}: the fractions add up to {sum(given.values()):g}; they must be 0 or more and add up to 1"
        )
    return tuple(given.get(split, 0.0) for split in SPLITS)


def parse_allowance(text: str) -> str:
    """`N` or `N%`, how many inputs may be bad. Raises ValueError for anything else."""
    if not re.fullmatch(r"\d+|\d+(\.\d+)?%", text) or (text.endswith("%") and float(text[:-1]) > 100):
        raise ValueError(f"{text!r} is no allowance: write a whole number, or a share from 0% to 100%")
    return text


@dataclass(frozen=True)
class Build:
    """One build of one dataset.

    Attributes:
        corpus: what is read.
        representation: how a piece becomes records.
        input: folder, .zip archive or file of the corpus; "" where the corpus needs none.
        output: folder of the dataset.
        transpose: semitones of the training copies.
        stretch: factors on every time of the training copies.
    """

    corpus: Corpus
    representation: Representation
    input: str = setting("", help="Folder or .zip archive that holds the corpus.", metavar="DIR")
    output: str = setting("", help="Folder to make; refused where a dataset is there already.", metavar="DIR")
    transpose: tuple[int, ...] = setting(
        (0,), help="Semitones of the training copies, for example -3..3.", parse=parse_integers, metavar="LOW..HIGH"
    )
    stretch: tuple[float, ...] = setting(
        (1.0,),
        help="Factors on time of the training copies, for example 0.95,1,1.05.",
        parse=parse_numbers,
        metavar="X,Y",
    )
    shards: int | None = setting(
        None, help="Shards of each split, at most one an item; by default 16, or more of about 128 MB each."
    )
    splits: str = setting(
        "official",
        help="official (else 0.8/0.1/0.1), composition (dealt out anew by group), or fractions.",
        parse=parse_splits,
        metavar="train=0.8,validation=0.1,test=0.1|official|composition",
    )
    seed: int = setting(0, help="Seed of the splits.")
    max_seconds: float = setting(21600.0, help="Longest piece, in seconds; a longer one is quarantined.")
    max_notes: int = setting(500_000, help="Most notes of a piece; one with more is quarantined.")
    max_notes_per_second: int = setting(2000, help="Most notes that begin in one second; one with more is quarantined.")
    max_controls: int = setting(1_000_000, help="Most events of controllers; a piece with more is quarantined.")
    max_tracks: int = setting(1024, help="Most tracks of a piece; one with more is quarantined.")
    max_bytes: int = setting(16 << 20, help="Largest file of a piece, in bytes; a larger one is quarantined.")
    item_seconds: float = setting(60.0, help="Longest time that reading one input may take; then it is quarantined.")
    item_megabytes: int = setting(1024, help="Most memory that reading one input may take; then it is quarantined.")
    max_bad: str = setting(
        "5%", help="How many inputs may be quarantined: N or N%.", parse=parse_allowance, metavar="N|N%"
    )
    only: str | None = setting(
        None, help="File with the paths to read, one a line, relative to the input.", metavar="FILE"
    )
    retry_quarantined: bool = setting(
        False, help="Read again what a finished dataset quarantined; only limits may differ. Not with --overwrite."
    )
    workers: int | None = setting(None, help="Processes; by default as many as the work is worth.")
    runner: str = setting("DirectRunner", help="Beam runner; DirectRunner means this machine.")
    overwrite: bool = setting(False, help="Replace what is in the output folder.")
    dry_run: bool = setting(False, help="Say what would be made, write nothing.")

    def __post_init__(self) -> None:
        problems = [
            ("transpose", self.transpose, bool(self.transpose) and max(map(abs, self.transpose)) <= 127, "-127..127"),
            ("stretch", self.stretch, bool(self.stretch) and all(0.01 <= x <= 100 for x in self.stretch), "0.01..100"),
            ("transpose", self.transpose, len(set(self.transpose)) == len(self.transpose), "each number once"),
            ("stretch", self.stretch, len(set(self.stretch)) == len(self.stretch), "each number once"),
            ("shards", self.shards, self.shards is None or 1 <= self.shards <= 99_999, "1..99999"),
            ("workers", self.workers, self.workers is None or 1 <= self.workers <= 1024, "1..1024"),
            ("max-seconds", self.max_seconds, 0 < self.max_seconds < math.inf, "a number above 0"),
            ("item-seconds", self.item_seconds, 0 < self.item_seconds <= 600, "0..600, above 0"),
            ("item-megabytes", self.item_megabytes, 16 <= self.item_megabytes <= 1 << 20, "16..1048576"),
        ]
        for name in ("max_notes", "max_notes_per_second", "max_controls", "max_tracks", "max_bytes"):
            value = getattr(self, name)
            problems.append((name.replace("_", "-"), value, value > 0, "above 0"))
        problems.append(("max-bytes", self.max_bytes, self.max_bytes <= LARGEST_FILE, f"at most {LARGEST_FILE}"))
        for name, value, fits, allowed in problems:
            if not fits:
                said = ",".join(map(str, value)) if isinstance(value, tuple) else value
                raise UsageError(f"--{name} {said} is not allowed: give {allowed}.")

    @property
    def building(self) -> str:
        """The folder in which the dataset grows until it is whole."""
        return os.path.abspath(self.output) + BUILDING

    @property
    def fractions(self) -> tuple[float, ...]:
        """Shares of train, validation and test where groups are dealt out."""
        return DEFAULT_FRACTIONS if self.splits in ("official", "composition") else _fractions(self.splits)

    @property
    def representation_name(self) -> str:
        """The name of the representation on the command line."""
        return representation_name(self.representation)

    @property
    def choices(self) -> dict[str, Any]:
        """What decides the bytes of the dataset, as plain JSON."""
        return {key: value for key, value in build_to_json(self).items() if key not in FREE}

    @property
    def replaces(self) -> bool:
        """Whether a dataset at the output is to be replaced."""
        return self.overwrite or self.retry_quarantined

    @property
    def written_fingerprint(self) -> str:
        """sha256 over what decides the bytes of a record, given its input: choices without limits, code that writes."""
        choices = {name: value for name, value in self.choices.items() if name not in LIMITS}
        return fingerprint({"choices": choices, "range": self.corpus.pitch_range, "code": written_code()})

    @property
    def fingerprint(self) -> str:
        """sha256 over the choices and the code version: builds with the same one may continue each other."""
        return fingerprint({"choices": self.choices, "code": code_version()})


def representation_name(representation: Representation) -> str:
    """The registered name of a representation's class; its class name where it is not registered."""
    kind = type(representation)
    known = {path: name for name, path in REPRESENTATIONS.items()}
    return known.get(f"{kind.__module__}:{kind.__qualname__}", kind.__qualname__)


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two builds' choices, by name, with both values; of settings inside settings those alone."""
    found = []
    for name in sorted({*there, *now}):
        one, other = there.get(name), now.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            if one.get("name") != other.get("name"):  # of another kind, whose settings are others altogether
                one, other = ({"name": side.get("name")} for side in (one, other))
            found += [f"{name}.{line.removeprefix('settings.')}" for line in differences(one, other)]
        elif one != other:
            found.append(f"{name} there {_short(one)}, now {_short(other)}")
    return found


def _short(value: Any) -> str:
    text = readable(str(value))
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def build_to_json(build: Build) -> dict[str, Any]:
    """Every choice as plain JSON values: the text of config.json."""
    values = {field.name: getattr(build, field.name) for field in dataclasses.fields(build)}
    plain = to_json(build)
    plain["corpus"] = {"name": build.corpus.name, "settings": to_json(values["corpus"])}
    plain["representation"] = {"name": build.representation_name, "settings": to_json(values["representation"])}
    return plain


def build_from_json(values: dict[str, Any]) -> Build:
    """The inverse of `build_to_json`. Raises UsageError for a name or setting that does not exist."""
    corpus, representation = values["corpus"], values["representation"]
    made = {
        **values,
        "corpus": from_json(resolve(CORPORA, corpus["name"], "corpus"), corpus["settings"]),
        "representation": from_settings(representation["name"], representation["settings"]),
    }
    return from_json(Build, made)


@cache
def code_version() -> str:
    """sha256 over the source of what decides the dataset, and the versions of the packages that take part."""
    root = _root()
    files = [
        path for package in ("beam_pipelines", "media", "schemas") for path in _sources(os.path.join(root, package))
    ]
    return _code(files, ("numpy", "symusic"))


@cache
def written_code() -> str:
    """sha256 over the source of what makes records of a piece: the rest decides which pieces, and what they hold."""
    modules = [os.path.join(_root(), "beam_pipelines", name + ".py") for name in _WRITING]
    return _code([*modules, *_sources(os.path.join(_root(), "schemas"))], ("numpy",))


def _root() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _code(files: Sequence[str], packages: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            digest.update(f"{os.path.relpath(path, _root())}\n".encode() + file.read())
    for package in packages:
        digest.update(f"{package}=={importlib.metadata.version(package)}\n".encode())
    return digest.hexdigest()


def _sources(folder: str) -> Iterator[str]:
    for path, folders, files in os.walk(folder):
        folders.sort()
        yield from (os.path.join(path, name) for name in sorted(files) if name.endswith(".py"))
