"""Inputs that change while a dataset is built from them: each costs itself only, by name, and nobody is misled."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from beam_pipelines import stages
from beam_pipelines.build import prepare
from beam_pipelines.verify import verify
from schemas.errors import InputError
from schemas.manifest import read_manifest
from schemas.record import from_example, read_records
from tests.beam_pipelines.midi_files import build_of, midi_folder, write_piece
from tests.beam_pipelines.tiny_dataset import made_piece
from tests.hostile import dying_prepare
from tests.hostile.dying_prepare import Blow
from tests.hostile.killed_builds import contents, litter, run, start, wait

INPUTS = 14


def delete(path: Path) -> None:
    path.unlink()


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def lead_out(path: Path) -> None:
    outside = path.parent.parent / f"outside-{path.name}"
    path.rename(outside)
    path.symlink_to(outside)


def lead_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def be_exchanged_unseen(path: Path) -> None:
    """Another piece of the same size, with the same date."""
    was, data = path.stat(), bytearray(path.read_bytes())
    place = data.rindex(b"\x90") + 1
    data[place] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert path.stat().st_size == was.st_size


CHANGES: list[Callable[[Path], None]] = [
    delete, cut_short, empty, grow, become_a_folder, become_a_pipe, lead_out, lead_nowhere, be_exchanged_unseen,
]  # fmt: skip


CHANGED = {f"midi/{number:03d}.mid" for number in range(len(CHANGES))}


def change_some(folder: Path) -> None:
    """Each of CHANGES happens to a file of its own."""
    for number, change in enumerate(CHANGES):
        change(folder / f"{number:03d}.mid")


def ledger(output: Path) -> dict[str, dict]:
    return {line["name"]: line for line in map(json.loads, (output / "items.jsonl").read_text().splitlines())}


def records(output: Path) -> Iterator[tuple[str, bytes]]:
    """(input, record) of everything in a dataset."""
    manifest = read_manifest(str(output))
    for shard in manifest.shards:
        for payload in read_records(str(output / shard.name)):
            key = bytes(from_example(payload, manifest.all_features)["key"]).decode()
            yield key.partition("#")[0], payload


def after_the_survey(monkeypatch, act: Callable[[], None]) -> None:
    """Lets something happen when all decisions are taken and no shard is written."""
    plan = stages.write_plan

    def planned(*arguments: object) -> None:
        plan(*arguments)
        act()

    monkeypatch.setattr(stages, "write_plan", planned)


@pytest.fixture
def build(tmp_path):
    midi_folder(tmp_path / "in", INPUTS)
    return replace(build_of(tmp_path), shards=2, max_bad=f"{len(CHANGES)}")


def test_whatever_happens_to_an_input_between_survey_and_writing_costs_that_input_only(build, tmp_path, monkeypatch):
    peace, output = tmp_path / "peace", tmp_path / "out"
    assert prepare(replace(build, output=str(peace)), [], as_json=False) == 0
    after_the_survey(monkeypatch, lambda: change_some(tmp_path / "in"))
    assert prepare(build, [], as_json=False) == 0
    lines = ledger(output)
    assert {name for name, line in lines.items() if line["status"] == "quarantined"} == CHANGED
    assert {lines[name]["reason"] for name in CHANGED} == {"changed-while-reading"}
    assert len(lines) == INPUTS and read_manifest(str(output)).dropped == {"changed-while-reading": len(CHANGED)}
    quarantined = map(json.loads, (output / "quarantine" / "quarantine.jsonl").read_text().splitlines())
    assert {entry["name"]: entry["reason"] for entry in quarantined} == dict.fromkeys(CHANGED, "changed-while-reading")
    kept = sorted(record for record in records(peace) if record[0] not in CHANGED)
    assert sorted(records(output)) == kept and kept
    assert verify(str(output)).exit_code == 0


def test_more_changed_inputs_than_allowed_are_too_many_and_put_back_they_are_written(build, tmp_path, monkeypatch):
    peace, folder = tmp_path / "peace", tmp_path / "in"
    assert prepare(replace(build, output=str(peace)), [], as_json=False) == 0
    with monkeypatch.context() as patch:
        after_the_survey(patch, lambda: (folder / "003.mid").rename(tmp_path / "aside"))
        with pytest.raises(InputError, match=r"1 of 14 inputs are bad[\s\S]*midi/003\.mid: changed-while-reading"):
            prepare(replace(build, max_bad="0"), [], as_json=False)
    (tmp_path / "aside").rename(folder / "003.mid")
    assert prepare(replace(build, max_bad="0"), [], as_json=False) == 0
    assert contents(tmp_path / "out") == contents(peace)


def test_an_input_folder_that_vanishes_ends_with_the_names_of_what_is_missing(build, tmp_path, monkeypatch):
    after_the_survey(monkeypatch, lambda: (tmp_path / "in").rename(tmp_path / "away"))
    with pytest.raises(InputError, match="14 of 14 inputs are bad"):
        prepare(build, [], as_json=False)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    return midi_folder(tmp_path_factory.mktemp("music"), 20)


def words(folder: Path, output: Path, *more: str) -> list[str]:
    return ["midi", "--input", str(folder), "--window", "64", "--output", str(output), *more]


PLACES = {"survey": r"survey/00001\.jsonl\.tmp", "shards": r"out\.building/midi-train.*00002.*\.tmp"}


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("place", PLACES)
def test_an_input_deleted_and_another_exchanged_between_a_kill_and_the_next_command(music, tmp_path, place, workers):
    """What is there when the build is continued is what counts: the bytes of a new build of it."""
    folder, output = tmp_path / "in", tmp_path / "out"
    shutil.copytree(music, folder)
    blow = dying_prepare.words(Blow(PLACES[place]))
    ended = wait(start(words(folder, output, "--workers", workers), blow))
    assert ended.code in (75, -9), ended.errors
    (folder / "000.mid").unlink()
    (folder / "013.mid").unlink()
    write_piece(folder, "006.mid", made_piece(77))
    write_piece(folder, "013b.mid", made_piece(78))
    ended = run(words(folder, output))
    assert ended.code == 0, ended.errors
    peace = run(words(folder, tmp_path / "peace"))
    assert peace.code == 0 and contents(output) == contents(tmp_path / "peace") and not litter(output)
    assert ("midi/006.mid" in ledger(output)) and verify(str(output)).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_inputs_that_change_while_the_command_runs_are_named_at_its_end(music, tmp_path, workers):
    folder, output = tmp_path / "in", tmp_path / "out"
    shutil.copytree(music, folder)
    blow = Blow(r"plan\.json\.tmp", run=f"rm {folder}/004.mid; truncate -s 20 {folder}/011.mid")
    more = ("--workers", workers, "--max-bad", "2", "--json")
    ended = wait(start(words(folder, output, *more), dying_prepare.words(blow)))
    assert ended.code == 0, ended.errors
    account = json.loads(ended.said)["account"]
    assert account["quarantined"] == {"changed-while-reading": 2} and account["inputs"] == account["written"] + 2
    assert verify(str(output)).exit_code == 0
