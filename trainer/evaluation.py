"""What is scored, and how; under which name the result is kept, and where."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from media.storage import local
from schemas.documents import LARGEST_JSON, read_json
from schemas.errors import InputError, MachineError, UsageError
from schemas.naming import SPLITS, readable
from schemas.settings import setting
from trainer import cells
from trainer.config import ON_CORRUPT

PROTOCOLS = ("segment", "sliding")
"""Of tokens; those of cells are `trainer.cells.PROTOCOLS`."""
_KEYS = {"run", "step", "split", "protocol", "pieces"}
"""What every result holds; a file without them was not written here."""
_SAME = ("run", "configuration", "step", "split", "protocol", "data_fingerprint", "window", "hop", "orders", "limit")
"""What a result shares with the earlier one that it may replace."""
_LONGEST_NAME, _LONGEST_PATH = 255, 4095
_MOST_RECORDS = 10**9
"""More corrupt records than these are in no name."""


@dataclass(frozen=True)
class Evaluation:
    """What is scored, and how."""

    data: str = setting("", help="dataset; without it the one that the run was trained on", metavar="DIR")
    split: str = setting("validation", help="which pieces; of train the originals alone", choices=SPLITS)
    checkpoint: str = setting("best", help="best, last, or a step", metavar="best|last|N")
    protocol: str = setting(
        "",
        help="tokens: segment: windows apart; sliding: windows that overlap; cells: masked: the training loss; "
        "orderless, chronological: cell after cell; framewise: step after step; without it the first the run can do",
        choices=("", *PROTOCOLS, *cells.PROTOCOLS),
    )
    window: int = setting(0, help="tokens or steps that are read at once; 0 takes the trained length")
    hop: int = setting(0, help="sliding: tokens from one window to the next; 0 takes half the window")
    batch: int = setting(0, help="windows that are scored at once; 0 takes as many as hold 8,192 tokens or 2,048 steps")
    orders: int = setting(5, help="cells: random orders whose likelihoods are averaged, or masks of each window")
    limit: int = setting(0, help="cells: only the first so many pieces by name; 0 takes all")
    on_corrupt: str = setting(
        "fail", help="skip leaves out, and names, pieces with records that are not what was written", choices=ON_CORRUPT
    )
    allow_longer: bool = setting(
        False, help="read windows longer than the trained length, cells or tokens with rotary positions"
    )
    output: str = setting(
        "", help="a .json file, or a folder, for the result; without it evaluations/ of the run", metavar="FILE|DIR"
    )

    def __post_init__(self) -> None:
        for name, least in (("window", 0), ("hop", 0), ("batch", 0), ("orders", 1), ("limit", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name} {getattr(self, name)}: must be {least} or more")
        if self.hop and self.protocol != "sliding":
            raise UsageError("--hop belongs to --protocol sliding: other windows do not overlap")
        if self.window and self.hop > self.window:
            raise UsageError(f"--hop {self.hop} is larger than --window {self.window}: tokens would be skipped")

    @property
    def is_of_tokens(self) -> bool:
        """Whether the protocol is one of tokens."""
        return self.protocol in PROTOCOLS

    def for_kind(self, known: tuple[str, ...], what: str) -> Evaluation:
        """These settings for a run that can be scored so; `what` names it. Raises UsageError for another protocol."""
        if not self.protocol:
            return replace(self, protocol=known[0]).for_kind(known, what)
        if self.protocol not in known:
            raise UsageError(f"--protocol {self.protocol}: {what} is scored with one of {', '.join(known)}")
        for name in ("orders", "limit") if self.is_of_tokens else ():
            if getattr(self, name) != getattr(Evaluation, name):
                raise UsageError(f"--{name} belongs to runs on cells, which {what} is not: leave it out")
        return self

    def cut(self, trained: int, longest: int | None) -> tuple[int, int]:
        """Window and hop, tokens or steps. Raises UsageError for a window past the `longest` that can be trusted."""
        window = self.window or trained
        if longest is not None and window > longest and not self.allow_longer:
            raise self._too_long(longest)
        hop = self.hop or self._usual_hop(window)
        if hop > window:
            raise UsageError(f"--hop {hop} is larger than the window of {window}: tokens would be skipped")
        return window, hop

    def _usual_hop(self, window: int) -> int:
        return max(1, window // 2) if self.protocol == "sliding" else window

    def _too_long(self, longest: int) -> UsageError:
        if self.protocol in cells.PROTOCOLS:
            return UsageError(
                f"--window {self.window}: this run was trained on {longest} steps, and has never seen more at once. "
                f"Take at most {longest}, or --allow-longer."
            )
        return UsageError(
            f"--window {self.window}: this run has rotary positions and was trained on {longest} tokens; longer ones "
            f"score badly. Take at most {longest} (--protocol sliding gives more context), or --allow-longer."
        )

    def apart(self, trained: int) -> str:
        """What the name of a result says of settings that make it another than the usual one; "" by default."""
        window = self.window or trained
        usual = {"window": (window, trained), "hop": (self.hop or self._usual_hop(window), self._usual_hop(window))}
        # In order of time there is one order, whatever was asked for.
        for name in ("limit",) if self.protocol == "chronological" else ("orders", "limit"):
            usual[name] = getattr(self, name), getattr(Evaluation, name)
        return "".join(f"-{name}{value}" for name, (value, default) in usual.items() if value != default)

    def same(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What an earlier result must say to be one of the same thing, of what this one is going to say."""
        if not self.is_of_tokens:
            asked = {**asked, "limit": self.limit, "orders": 1 if self.protocol == "chronological" else self.orders}
        return {name: asked[name] for name in _SAME if name in asked}

    def file(self, run: str, name: str, asked: Mapping[str, Any]) -> str:
        """Where a result of this name goes that says what was `asked`; of one that is not whole, see `without`.

        Raises:
            UsageError: something else is there already, or no file can have this name.
            MachineError: nothing can be written there.
        """
        if self.output:
            path = self.output if self.output.endswith(".json") else os.path.join(self.output, name)
        else:
            path = os.path.join(run, "evaluations", name)
        check_place(path, self.same(asked), self.on_corrupt == "skip")
        return path


def without(path: str, records: int) -> str:
    """Where a result goes for which so many corrupt records were passed over: never to where the whole one goes."""
    return f"{path.removesuffix('.json')}-without{records}.json" if records else path


def check_place(path: str, same: Mapping[str, Any], skips: bool = False) -> None:
    """Raises before anything is scored, which may take hours, what writing a result there would raise after it.

    Args:
        path: where a whole result goes.
        same: what an earlier result must say that may be replaced.
        skips: corrupt records are passed over, so that it may go to where `without` says.
    """
    _check_name(local(path), without(path, _MOST_RECORDS) if skips else path)
    for there in [path, *_parts_of(path)] if skips else [path]:
        if os.path.lexists(there):
            _check_replaced(there, same)
    above = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above) or not os.access(above, os.W_OK | os.X_OK):
        raise MachineError(
            f"{path}: cannot be written, because {above} is no folder that may be written to. Give --output FILE or "
            "DIR another place."
        )


def _check_name(path: str, longest: str) -> None:
    parts = [len(os.fsencode(part)) for part in longest.split(os.sep)]
    if "\0" in path or max(parts) > _LONGEST_NAME or len(os.fsencode(os.path.abspath(longest))) > _LONGEST_PATH:
        raise UsageError(
            f"{readable(path)}: no file can be called so: a name has at most {_LONGEST_NAME} bytes, with what it says "
            f"of records that are passed over, and a path {_LONGEST_PATH}. Give --output a shorter one."
        )


def _parts_of(path: str) -> list[str]:
    """The results beside a whole one for which records were passed over, sorted."""
    folder, name = os.path.split(path)
    partial = re.compile(re.escape(name.removesuffix(".json")) + r"-without\d+\.json")
    there = os.listdir(folder or ".") if os.path.isdir(folder or ".") and os.access(folder or ".", os.R_OK) else []
    return sorted(os.path.join(folder, one) for one in there if partial.fullmatch(one))


def _check_replaced(path: str, same: Mapping[str, Any]) -> None:
    """Raises UsageError where a file is anything but an earlier result of the same thing."""
    found = written(path)
    if found is None:
        raise UsageError(
            f"{path}: is there, and is no evaluation of at most {LARGEST_JSON >> 20} MiB. Choose another --output, or "
            "move it away."
        )
    # Results had no "configuration" once.
    other = {name: found.get(name, value if name == "configuration" else None) for name, value in same.items()}
    sides = [(name, other[name], value) for name, value in same.items() if other[name] != value]
    if sides:
        told = "; ".join(f"{name}: {readable(str(there)[:80])} there, {here} here" for name, there, here in sides)
        raise UsageError(f"{path}: holds another evaluation ({told}). Give --output another name, or move it away.")


def written(path: str) -> dict[str, Any] | None:
    """The evaluation that a file holds; None where it holds none. Raises MachineError where it may not be read."""
    try:
        found = read_json(path, depth=16)
    except InputError as error:
        reason = error.__cause__
        if isinstance(reason, OSError) and reason.errno not in (errno.ENOENT, errno.EISDIR):
            raise MachineError(
                f"{path}: is there, and cannot be read: {reason.strerror}. Give --output another name, or make it "
                "readable."
            ) from error
        return None
    return found if isinstance(found, dict) and found.keys() >= _KEYS else None
