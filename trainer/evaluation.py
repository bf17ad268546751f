"""What is scored, and how; under which name the result is kept, and where."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from schemas.documents import read_json
from schemas.errors import InputError, MachineError, UsageError
from schemas.naming import SPLITS
from schemas.settings import setting
from trainer import cells
from trainer.config import ON_CORRUPT

PROTOCOLS = ("segment", "sliding")
"""Of tokens; those of cells are `trainer.cells.PROTOCOLS`."""
_KEYS = {"run", "step", "split", "protocol", "pieces"}
"""What every result holds; a file without them was not written here."""
_LARGEST_BYTES = 1 << 30


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

    def file(self, run: str, name: str) -> str:
        """Where a result of this name goes.

        Raises:
            UsageError: something else is there already.
            MachineError: nothing can be written there.
        """
        if self.output:
            path = self.output if self.output.endswith(".json") else os.path.join(self.output, name)
        else:
            path = os.path.join(run, "evaluations", name)
        check_place(path)
        return path


def check_place(path: str) -> None:
    """Raises before anything is scored, which may take hours, what writing a result there would raise after it."""
    if os.path.lexists(path) and not is_evaluation(path):
        raise UsageError(f"{path}: is there, and is no evaluation. Choose another --output, or move it away.")
    above = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above) or not os.access(above, os.W_OK | os.X_OK):
        raise MachineError(
            f"{path}: cannot be written, because {above} is no folder that may be written to. Give --output FILE or "
            "DIR another place."
        )


def is_evaluation(path: str) -> bool:
    """Whether a file holds what an evaluation writes."""
    try:
        found = read_json(path, limit_bytes=_LARGEST_BYTES, depth=16)
    except InputError:
        return False
    return isinstance(found, dict) and found.keys() >= _KEYS
