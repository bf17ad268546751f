"""A build that is disturbed in many ways, and what it ends in where nobody disturbs it."""

import pytest

from tests.beam_pipelines.midi_files import midi_folder
from tests.hostile.killed_builds import INPUTS, contents, run


@pytest.fixture(scope="session")
def words(tmp_path_factory):
    """What is typed behind `stretto prepare`, without --output."""
    music = midi_folder(tmp_path_factory.mktemp("music"), INPUTS, notes=200)
    return ["midi", "--input", str(music), "--window", "64", "--transpose=-1..1", "--shards", "4"]


@pytest.fixture(scope="session")
def undisturbed(words, tmp_path_factory):
    """The files of the dataset that it makes, by name."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert run([*words, "--output", str(output)]).code == 0
    return contents(output)
