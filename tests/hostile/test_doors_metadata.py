"""Odd and hostile metadata of MAESTRO: each file of the collection is refused, or read as `expected_metadata.csv` says.

The performances that the official metadata name are there, as small made-up pieces; no others are.
"""

import csv
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_pipelines.build import prepare
from beam_pipelines.config import Build
from beam_pipelines.corpora.maestro import Maestro
from schemas.errors import InputError, Unreadable
from schemas.representations.events import Events
from tests.hostile import attacks

EXPECTED = Path(__file__).with_name("expected_metadata.csv")
ROWS = list(csv.DictReader(EXPECTED.open(newline="", encoding="utf-8")))


def official_paths(find: Callable[[str], Path]) -> set[str]:
    """The MIDI files of the release."""
    with (find("maestro/official-metadata") / "maestro-v3.0.0.csv").open(newline="", encoding="utf-8") as file:
        return {row["midi_filename"] for row in csv.DictReader(file)}


@pytest.fixture
def root_of(tmp_path: Path, sample_data: Callable[[str], Path]) -> Callable[[str], Path]:
    """A function: file of the collection -> a corpus with that file as its metadata."""

    def made(name: str) -> Path:
        root = tmp_path / "root"
        root.mkdir()
        source = sample_data(f"hostile/metadata/{name}")
        shutil.copy(source, root / f"maestro-v3.0.0{source.suffix}")
        text = source.read_text(encoding="latin-1")
        for path in official_paths(sample_data):
            if path in text:
                (root / path).parent.mkdir(exist_ok=True)
                (root / path).write_bytes(attacks.SOUND)
        return root

    return made


def test_every_file_of_the_collection_is_expected(sample_data: Callable[[str], Path]) -> None:
    there = sorted(path.name for path in sample_data("hostile/metadata").iterdir())
    assert [row["file"] for row in ROWS] == there
    assert all(row["why"] for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row["file"] for row in ROWS])
def test_metadata_are_refused_or_read_as_expected(row: dict[str, str], root_of: Callable[[str], Path]) -> None:
    corpus, root = Maestro(), str(root_of(row["file"]))
    if row["verdict"] == "refused":
        with pytest.raises(InputError) as error:
            list(corpus.items(root))
        assert row["says"] in str(error.value) and "maestro-v3.0.0." in str(error.value)
        return
    outcomes = Counter[str]()
    for item in corpus.items(root):
        try:
            outcomes[f"{item.split}" if len(corpus.parse(item, root).notes) else "empty"] += 1
        except Unreadable as error:
            outcomes[error.reason] += 1
    assert " ".join(f"{reason}={count}" for reason, count in sorted(outcomes.items())) == row["outcomes"]
    assert row["says"] in " ".join(corpus.reports(root))


def test_a_build_of_hostile_metadata_counts_each_of_their_items(
    root_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = Build(
        Maestro(), Events(window=64), str(root_of("path-escape.csv")), str(tmp_path / "out"), workers=1, max_bad="50%"
    )
    assert prepare(build, [], as_json=False) == 0
    quarantine = (tmp_path / "out" / "quarantine" / "quarantine.jsonl").read_text()
    assert "path-escapes-root" in quarantine and "../../../outside.midi" in quarantine
    assert "path-escapes-root" in capsys.readouterr().out
