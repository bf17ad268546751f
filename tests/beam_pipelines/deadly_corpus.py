"""A corpus with a file that ends whoever reads it, as a crash in native code does; run by tests as a program."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from beam_pipelines.build import prepare
from beam_pipelines.corpora.midi import MidiFolder
from tests.beam_pipelines.midi_files import build_of


@dataclass(frozen=True)
class Deadly(MidiFolder):
    """A folder of MIDI files of which 005.mid must not be touched."""

    def parse(self, item, root, data=None):
        if item.path == "005.mid":
            os._exit(42)
        return super().parse(item, root, data)


def main(folder: str, workers: int) -> int:
    """Prepares `folder/in`."""
    from dataclasses import replace

    return prepare(replace(build_of(Path(folder), workers=workers, max_bad="1"), corpus=Deadly()), [], as_json=False)


if __name__ == "__main__":
    from tests.beam_pipelines import deadly_corpus

    # By its importable name, so that other processes can find the corpus.
    sys.exit(deadly_corpus.main(sys.argv[1], int(sys.argv[2])))
