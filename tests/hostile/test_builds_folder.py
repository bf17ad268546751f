"""The folder of a build is taken away, or may not be written to: exit 4 with what to do, never a traceback."""

import pytest

from tests.beam_pipelines.midi_files import midi_folder
from tests.hostile import dying_prepare
from tests.hostile.dying_prepare import Blow
from tests.hostile.killed_builds import contents, litter, run, start, wait


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return ["midi", "--input", str(midi_folder(tmp_path_factory.mktemp("music"), 12)), "--window", "64"]


@pytest.fixture(scope="module")
def undisturbed(words, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert run([*words, "--output", str(output)]).code == 0
    return contents(output)


PLACES = {
    "survey": r"survey/00001\.jsonl\.tmp",
    "shards": r"out\.building/midi-train.*00002.*\.tmp",
    "commit": r" -> .*/features\.json$",
    "the last step": r"out\.building -> ",
}


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("place", PLACES)
def test_a_folder_that_somebody_removes_is_said_to_be_gone_and_made_anew(words, undisturbed, tmp_path, place, workers):
    output = tmp_path / "out"
    blow = Blow(PLACES[place], run=f"rm -rf {output}.building")
    ended = wait(start([*words, "--output", str(output), "--workers", workers], dying_prepare.words(blow)))
    assert ended.code == 4, ended.errors
    said = "features.json: cannot be written" if place == "commit" else "was removed meanwhile"
    assert said in ended.errors and f"{output}.building" in ended.errors
    assert "Traceback" not in ended.errors and not ended.left
    assert run([*words, "--output", str(output)]).code == 0
    assert contents(output) == undisturbed and not litter(output)


def test_an_output_below_a_file_is_refused_with_its_name(words, tmp_path):
    (tmp_path / "file").write_text("")
    ended = run([*words, "--output", str(tmp_path / "file" / "out")])
    assert ended.code == 4 and "Traceback" not in ended.errors
    assert f"{tmp_path}/file" in ended.errors and "choose another place" in ended.errors
