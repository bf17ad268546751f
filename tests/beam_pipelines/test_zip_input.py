"""A zip archive as --input gives the dataset that its unpacked folder gives."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import pytest

from beam_pipelines.build import prepare
from beam_pipelines.config import Build
from beam_pipelines.corpora.maestro import Maestro
from beam_pipelines.corpora.midi import MidiFolder
from schemas.errors import InputError
from schemas.representations.events import Events
from tests.beam_pipelines.midi_files import DAMAGED, midi_folder


def zipped(folder: Path, archive: Path, top: str = "") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as whole:
        for path in sorted(folder.rglob("*"), reverse=True):
            whole.write(path, top + str(path.relative_to(folder)))
    return archive


def built(corpus: MidiFolder | Maestro, source: Path, output: Path) -> dict[str, str]:
    """The sha256 of every shard and index, and of the ledger."""
    build = Build(corpus, Events(window=64), str(source), str(output), workers=1, max_bad="50%")
    assert prepare(build, [], as_json=True) == 0
    files = [*output.glob("*.tfrecord-*"), *(output / "index").iterdir(), output / "items.jsonl"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    folder = midi_folder(tmp_path / "songs")
    (folder / "deeper").mkdir()
    (folder / "000.mid").rename(folder / "deeper" / "音.mid")
    (folder / "bad.mid").write_bytes(DAMAGED)
    (folder / "notes.txt").write_text("no music")
    return folder


@pytest.mark.parametrize("top", ["", "songs/"])
def test_a_folder_of_music_and_its_zip_give_equal_shards(tmp_path: Path, songs: Path, top: str) -> None:
    from_folder = built(MidiFolder(), songs, tmp_path / "from-folder")
    from_zip = built(MidiFolder(), zipped(songs, tmp_path / "songs.zip", top), tmp_path / "from-zip")
    assert from_zip == from_folder and len(from_zip) > 3
    shutil.rmtree(songs)
    assert json.loads((tmp_path / "from-zip" / "stats.json").read_text())["ignored_files"] == {".txt": 1}


def test_the_release_of_maestro_is_read_from_its_zip(tmp_path: Path, songs: Path) -> None:
    header = "canonical_composer,canonical_title,split,year,midi_filename,audio_filename,duration\n"
    splits = ["train"] * 8 + ["validation"] * 2 + ["test"] * 2
    files = [path.relative_to(songs) for path in sorted(songs.rglob("*.mid"))]
    rows = [
        f'C,"T {n}",{split},2004,{path},x.wav,1\n' for n, (split, path) in enumerate(zip(splits, files, strict=False))
    ]
    (songs / "maestro-v3.0.0.csv").write_text(header + "".join(rows))
    archive = zipped(songs, tmp_path / "maestro-v3.0.0-midi.zip", "maestro-v3.0.0/")
    from_zip = built(Maestro(), archive, tmp_path / "from-zip")
    assert from_zip == built(Maestro(), songs, tmp_path / "from-folder")
    assert Maestro().version_at(str(archive)) == "3.0.0"


def test_the_sample_of_maestro_in_a_zip_lists_the_same_items(tmp_path: Path, sample_data) -> None:  # type: ignore[no-untyped-def]
    root = sample_data("maestro/maestro-v3.0.0")
    with zipfile.ZipFile(tmp_path / "m.zip", "w", zipfile.ZIP_STORED) as whole:
        for path in (*root.glob("*.csv"), *root.glob("*.json"), *root.glob("2018/*")):
            whole.write(path, f"maestro-v3.0.0/{path.relative_to(root)}")
    archive = str(tmp_path / "m.zip")
    corpus = Maestro()
    items = list(corpus.items(archive))
    assert items == list(corpus.items(str(root)))
    of_2018 = [item for item in items if item.path.startswith("2018/")]
    assert of_2018
    assert all(corpus.read(item, archive) == corpus.read(item, str(root)) for item in of_2018)


def test_damage_in_one_member_costs_that_member(tmp_path: Path, songs: Path) -> None:
    archive = zipped(songs, tmp_path / "songs.zip")
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as whole:
        place = whole.getinfo("003.mid").header_offset
    data[place + 60] ^= 0xFF
    archive.write_bytes(bytes(data))
    built(MidiFolder(), archive, tmp_path / "out")
    lines = [
        json.loads(line) for line in (tmp_path / "out" / "quarantine" / "quarantine.jsonl").read_text().splitlines()
    ]
    reasons = {line["name"]: line["reason"] for line in lines}
    assert reasons["midi/003.mid"] == "damaged-archive" and len(reasons) == 2


def test_a_folder_of_macos_shadows_is_counted_and_not_read(tmp_path: Path, songs: Path) -> None:
    (songs / "bad.mid").unlink()
    with zipfile.ZipFile(zipped(songs, tmp_path / "songs.zip", "songs/"), "a") as whole:
        whole.writestr("__MACOSX/songs/._001.mid", b"\0\5\x16\7")
    corpus = MidiFolder()
    assert [item.name for item in corpus.items(str(tmp_path / "songs.zip"))] == [
        item.name for item in corpus.items(str(songs))
    ]
    assert corpus.ignored(str(tmp_path / "songs.zip")) == {"(macOS)": 1, ".txt": 1}


def test_an_archive_without_metadata_says_what_to_give(tmp_path: Path, songs: Path) -> None:
    archive = zipped(songs, tmp_path / "songs.zip")
    with pytest.raises(InputError, match=r"songs\.zip: no maestro-v.* Give the release's zip"):
        Maestro().version_at(str(archive))
