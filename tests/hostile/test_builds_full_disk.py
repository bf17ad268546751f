"""A disk that is full at any moment of a build: exit 4 with the file and the remedy; with more room it continues."""

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from beam_pipelines.folder import Folder
from beam_pipelines.outcome import explained, reserve, tell, told
from schemas.errors import MachineError
from tests.hostile import dying_prepare
from tests.hostile.dying_prepare import Blow
from tests.hostile.killed_builds import ROOT, contents, litter, run, start, wait

PLENTY = "64m"


@dataclass(frozen=True)
class Disk:
    """A small file system of its own."""

    path: Path

    def resize(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)

    def free(self):
        (self.path / "ballast").unlink(missing_ok=True)
        self.resize(f"size={PLENTY},nr_inodes=10000")


@pytest.fixture
def disk(tmp_path):
    """A file system in memory; skips where none may be mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={PLENTY},nr_inodes=10000", "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs mount")
    if done.returncode:
        pytest.skip(f"needs to mount a small file system: {done.stderr.strip()}")
    yield Disk(path)
    subprocess.run(["umount", "-l", str(path)], check=True)


def check_full(ended, disk):
    """What a full disk must look like: which file, why, what to do, and nobody left waiting."""
    assert ended.code == 4, ended.errors
    assert re.search(rf"{disk.path}/out\S*: cannot be written: No space left on device\. Free some space", ended.errors)
    assert "Traceback" not in ended.errors and not ended.left


def check_continues(words, output, disk, undisturbed):
    """With more room the same command ends in the bytes of an undisturbed build."""
    disk.free()
    ended = run([*words, "--output", str(output)])
    assert ended.code == 0, ended.errors
    assert contents(output) == undisturbed
    assert not litter(output)


def filled_at(place, disk, words, *more):
    """How the build ends when the disk becomes full as it is about to change a file."""
    blow = Blow(place, fill=str(disk.path))
    return wait(start([*words, "--output", str(disk.path / "out"), *more], dying_prepare.words(blow)))


PLACES = {
    "the launcher's own state": r"build\.json\.tmp",
    "listing": r"items/00002\.jsonl\.tmp",
    "room for the outcome": r"outcome\.json\.tmp",
    "survey, its progress": r"progress/survey-",
    "survey, a report": r"survey/00003\.jsonl\.tmp",
    "decisions": r"decisions\.jsonl\.tmp",
    "inputs of a shard": r"references/.*00002.*\.tmp",
    "plan": r"plan\.json\.tmp",
    "shards, their progress": r"progress/write-",
    "shards, records on their way": r"progress/scratch/.*-00001-of",
    "shards, a shard": r"out\.building/midi-train.*00002.*\.tmp",
    "shards, an index": r"index/.*\.tmp",
    "shards, a report": r"shards/.*-00001-of.*\.tmp",
    "commit, the ledger": r" -> .*/quarantine\.jsonl$",
    "commit, the manifest": r" -> .*/features\.json$",
    "commit, the seal": r" -> .*/provenance\.json$",
}


IN_WORKERS = ("survey, its progress", "decisions", "shards, their progress", "shards, an index", "commit, the seal")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "workers"), [*((place, "1") for place in PLACES), *((place, "2") for place in IN_WORKERS)]
)
def test_a_disk_full_at_any_moment_ends_with_4_and_the_file_and_continues(disk, words, undisturbed, place, workers):
    check_full(filled_at(PLACES[place], disk, words, "--workers", workers), disk)
    check_continues(words, disk.path / "out", disk, undisturbed)


def test_a_disk_full_while_a_shard_is_written_ends_with_4_and_the_file(disk, words):
    check_full(filled_at(PLACES["shards, a shard"], disk, words, "--workers", "1"), disk)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_disk_of_any_size_that_is_too_small_ends_with_4(disk, words, undisturbed, workers):
    stages = set()
    for kilobytes in (4, 8, 12, 20, 48, 64, 80, 100, 120, 160, 200, 280, 400, 600, 800):
        disk.resize(f"size={kilobytes}k")
        ended = run([*words, "--output", str(disk.path / "out"), "--workers", workers])
        if ended.code == 0:
            break
        check_full(ended, disk)
        stages.add(furthest(disk.path / "out.building"))
        subprocess.run(["rm", "-rf", str(disk.path / "out.building")], check=True)
    assert contents(disk.path / "out") == undisturbed
    assert stages >= {"listing", "survey", "shards"}, stages


@pytest.mark.slow
def test_a_disk_that_grows_a_little_each_time_is_enough_in_the_end(disk, words, undisturbed):
    output = disk.path / "out"
    for kilobytes in (4, 40, 90, 130, 180, 260, 340, 450, 600, 1200):
        disk.resize(f"size={kilobytes}k")
        ended = run([*words, "--output", str(output), "--workers", "2"])
        if ended.code == 0:
            break
        check_full(ended, disk)
    assert contents(output) == undisturbed and not litter(output)


@pytest.mark.slow
@pytest.mark.parametrize("files", [4, 10, 20, 40])
def test_a_disk_without_room_for_another_name_is_a_full_disk(disk, words, undisturbed, files):
    disk.resize(f"nr_inodes={files}")
    check_full(run([*words, "--output", str(disk.path / "out"), "--workers", "2"]), disk)
    check_continues(words, disk.path / "out", disk, undisturbed)


def furthest(building):
    """The last stage that has left a file."""
    marks = {"shards": "progress/plan.json", "survey": "survey", "listing": "progress"}
    return next((stage for stage, name in marks.items() if (building / name).exists()), "nothing")


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_news_of_a_full_disk_arrive_even_where_they_cannot_be_written_down(disk, words, undisturbed, workers):
    output = disk.path / "out"
    gone = f"rm {output}.building/progress/outcome.json; cat /dev/zero > {disk.path}/ballast; true"
    blow = Blow(r"out\.building/midi-train.*00002.*\.tmp", run=gone)
    check_full(wait(start([*words, "--output", str(output), "--workers", workers], dying_prepare.words(blow))), disk)
    check_continues(words, output, disk, undisturbed)


@pytest.fixture
def elsewhere():
    """A folder that is not below those for temporary files, where this program is not either."""
    if not os.path.isdir("/dev/shm"):
        pytest.skip("needs /dev/shm")
    if any(path.is_relative_to(place) for path in (ROOT, Path(sys.executable)) for place in TEMPORARY_FOLDERS):
        pytest.skip(f"{ROOT} lies in a folder for temporary files, which this test fills")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


TEMPORARY_FOLDERS = ("/var/tmp", "/usr/tmp", "/tmp")
WITHOUT_TEMPORARY_FOLDERS = f"""
for place in {" ".join(TEMPORARY_FOLDERS)}; do
    [ -d $place ] && mount -t tmpfs -o size=4k full $place && cat /dev/zero > $place/ballast
done 2> /dev/null
cd /proc && exec "$@"
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_neither_engine_nor_reader_needs_room_for_temporary_files(elsewhere, disk, words, undisturbed, workers):
    shutil.copytree(words[2], elsewhere / "in")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from stretto import main; sys.exit(main())"
    entry = ["unshare", "-m", "sh", "-c", WITHOUT_TEMPORARY_FOLDERS, "sh", sys.executable, "-c", code]
    more = ["midi", "--input", str(elsewhere / "in"), *words[3:], "--output", str(elsewhere / "out")]
    ended = wait(start([*more, "--workers", workers], entry))
    assert ended.code == 0, ended.errors
    assert contents(elsewhere / "out") == undisturbed


def test_the_room_of_the_outcome_holds_the_longest_message_and_what_is_told_reads_as_it_was(tmp_path):
    folder = Folder(str(tmp_path))
    reserve(folder)
    size = os.path.getsize(folder.outcome)
    assert explained(folder, ValueError("x")).args == ("x",)
    for message in ("\N{MUSICAL SYMBOL G CLEF}" * 100_000, "short"):
        tell(folder, MachineError(message))
        said = explained(folder, RuntimeError("what the engine made of it"))
        assert isinstance(said, MachineError) and message.startswith(str(said)) and str(said)
        assert os.path.getsize(folder.outcome) == size


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (MachineError("disk full [while running 'WriteShards/ParDo(WriteShard)']"), MachineError, "disk full"),
        (RuntimeError("Traceback …\n  File x\nschemas.errors.MachineError: disk full [while running 'A/B']\n"),
         MachineError, "disk full"),
        (RuntimeError("Traceback …\nValueError: a bug [while running 'A/B']"), RuntimeError, "Traceback"),
    ],
)  # fmt: skip
def test_where_no_outcome_could_be_written_the_engine_s_own_words_are_read(tmp_path, raised, kind, message):
    said = explained(Folder(str(tmp_path)), raised)
    assert type(said) is kind and str(said).startswith(message) and "while running" not in str(said).splitlines()[0]


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_what_the_machine_refuses_is_the_machine_s_fault_and_names_the_file(tmp_path, code):
    folder = Folder(str(tmp_path))
    reserve(folder)
    with pytest.raises(MachineError, match=rf"shard: cannot be written: {os.strerror(code)}"), told(folder):
        raise OSError(code, os.strerror(code), folder.path("shard"))


def test_a_file_that_is_missing_elsewhere_is_a_fault_of_ours(tmp_path):
    folder = Folder(str(tmp_path / "out.building"))
    with pytest.raises(FileNotFoundError), told(folder):
        raise FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "elsewhere"))
    with pytest.raises(MachineError, match="was removed meanwhile"), told(folder):
        raise FileNotFoundError(errno.ENOENT, "No such file", folder.path("items", "00000.jsonl"))
