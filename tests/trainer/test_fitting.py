"""A dataset that does not fit is refused with a command that makes one that does, and can be typed as it stands."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from schemas.manifest import Manifest
from schemas.representations.events import Events
from schemas.representations.voices import Voices
from schemas.settings import to_json
from tests.trainer.synthetic import write_dataset
from trainer.fitting import preparing

STRETTO = str(Path(sys.executable).with_name("stretto"))


def manifest_of(representation: Events | Voices, corpus: str = "jsb") -> Manifest:
    """Of a dataset without shards."""
    name = type(representation).__name__.lower()
    return Manifest(corpus, "1", name, to_json(representation), representation.features(), ())


@pytest.mark.parametrize(
    ("representation", "remedies", "flags"),
    [
        (Voices(grid="8th", window=32, hold=True), "--no-hold", "--representation=voices --grid=8th --window=32 "),
        (Voices(grid="8th", window=0), "--window 64", "--representation=voices --grid=8th "),
        (Voices(grid="8th"), "--representation events", ""),
        (Voices(grid="8th"), "--representation voices", "--grid=8th "),
        (Voices(hold=True, ranges="any"), "--no-hold --ranges vocal", "--representation=voices "),
        (Events(pitch_range=(21, 108), window=0), "--window 2048", "--representation=events --pitch-range=21..108 "),
    ],
)
def test_what_fits_is_made_with_the_settings_of_what_does_not_but_for_what_must_change(
    representation: Events | Voices, remedies: str, flags: str
) -> None:
    expected = f"stretto prepare jsb --input PATH --output DIR {flags}{remedies}"
    assert preparing(manifest_of(representation), remedies) == expected


def test_of_a_representation_that_nobody_knows_nothing_is_kept() -> None:
    strange = Manifest("a corpus; rm", "1", "frames", {"rate": 1}, {}, ())
    assert preparing(strange, "--window 64") == "stretto prepare 'a corpus; rm' --input PATH --output DIR --window 64"


def test_the_command_that_is_suggested_runs_as_it_stands(tmp_path: Path) -> None:
    chorale = np.random.default_rng(0).integers(60, 70, (80, 4)).tolist()
    corpus = tmp_path / "Jsb16thSeparated.json"
    corpus.write_text(json.dumps({"train": [chorale], "valid": [chorale], "test": [chorale]}))
    voices = Voices(grid="8th", window=32, hold=True)
    write_dataset(str(tmp_path / "data"), voices.features(), {"train": []}, representation=voices)
    refused = run("train", "chorales-residual-small", "--data", str(tmp_path / "data"), "--output", "run")
    assert refused.returncode == 2
    suggested = re.search(r"Make one that does .*: stretto (.*)", refused.stderr)
    assert suggested, refused.stderr
    words = shlex.split(suggested[1].replace("synthetic", "jsb").replace("PATH", str(corpus)))
    done = run(*words, "--dry-run")
    assert "would make" in done.stdout, done.stderr


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """A command as a user types it."""
    return subprocess.run([STRETTO, *words], capture_output=True, text=True, check=False, timeout=120)
