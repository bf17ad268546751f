"""Corpora with a file that takes whoever reads it along, in each of the ways there are; run by tests as a program."""

import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

from beam_pipelines.build import prepare
from beam_pipelines.corpora.midi import MidiFolder
from schemas.settings import setting
from tests.beam_pipelines.midi_files import build_of

DEADLY = "005.mid"


def hang() -> None:
    """Never comes back, and does not let the interpreter run either, as native code does not."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    while True:
        time.sleep(1)


def grow() -> None:
    """Takes memory until there is none."""
    taken = []
    while True:
        taken.append(bytearray(1 << 24))


def by_signal(number: int) -> None:
    """Dies as of a fault in native code."""
    os.kill(os.getpid(), number)
    time.sleep(60)


WAYS = {
    "exit": lambda: os._exit(42),
    "segfault": lambda: by_signal(signal.SIGSEGV),
    "killed": lambda: by_signal(signal.SIGKILL),
    "fault": lambda: {}["what nobody foresaw"],
    "hang": hang,
    "grow": grow,
    "talk": lambda: os.write(1, b'{"a line that is": "no answer"}\n') and os.write(2, b"x" * 200_000),
}


@dataclass(frozen=True)
class Deadly(MidiFolder):
    """A folder of MIDI files of which 005.mid must not be parsed; `only_by` "writer" lets the survey pass."""

    way: str = setting("exit", help="how it kills")
    only_by: str = setting("", help="who dies")

    def parse(self, item, root, data=None):
        who = "writer" if any(frame.name == "write_item" for frame in traceback.extract_stack()) else "reader"
        if item.path == DEADLY and self.only_by in ("", who):
            WAYS[self.way]()
        return super().parse(item, root, data)


def main(folder: str, workers: int, way: str, only_by: str = "") -> int:
    """Prepares `folder/in`."""
    build = build_of(Path(folder), workers=workers, max_bad="1", item_seconds=2.0, item_megabytes=256)
    return prepare(replace(build, corpus=Deadly(way=way, only_by=only_by)), [], as_json=False)


if __name__ == "__main__":
    from tests.beam_pipelines import deadly_corpus

    # By its importable name, so that other processes can find the corpus.
    sys.exit(deadly_corpus.main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
