"""Every guard of a door taken away once: the attack then succeeds, so the test of that guard can fail.

Each case makes an attack of `attacks.py`, takes one guard out by monkeypatching, and says what the attacker then gets:
the secret, memory, or an entry that should have been refused.
"""

import json
import os
import pickle
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import command_line
from beam_pipelines.config import Build
from beam_pipelines.corpora import maestro_metadata
from beam_pipelines.corpora.maestro import Maestro
from beam_pipelines.corpora.midi import MidiFolder
from command_line import Group, config_settings, read_config
from media import archive, musicxml, storage
from schemas import documents, redaction
from schemas.errors import InputError
from tests.hostile import attacks

SETTINGS = (Group("build", "build", Build, hidden=frozenset({"corpus", "representation"})),)
Patch = pytest.MonkeyPatch
Attack = Callable[[Path], Path]


def read_listed(root: Path) -> bytes:
    """The bytes of the only performance that the metadata name."""
    [item] = Maestro().items(str(root))
    return Maestro().read(item, str(root))


def read_member(path: Path, name: str) -> bytes:
    """The bytes of a member, as the corpus `midi` reads it."""
    [item] = [item for item in MidiFolder().items(str(path)) if item.path == name]
    return MidiFolder().read(item, str(path))


def nothing(*_: Any, **__: Any) -> None:
    """In place of a check."""


def follow_links(patch: Patch) -> None:
    """Opens a path as any program would."""
    patch.setattr(storage, "_open_below", lambda folder, path: os.open(os.path.join(folder, path), os.O_RDONLY))


def believe_paths(patch: Patch) -> None:
    """Takes a path of the metadata as it is."""
    patch.setattr(storage, "_checked_relative", lambda path: path)
    follow_links(patch)


def take_all_for_inside(patch: Patch) -> None:
    """Asks a link where it leads, and does not listen."""
    patch.setattr(storage, "_is_below", lambda *_: True)


@pytest.mark.parametrize(
    ("attack", "without_guard"),
    [
        (attacks.csv_climbing_out, believe_paths),
        (attacks.json_climbing_out, believe_paths),
        (attacks.absolute_path, believe_paths),
        (attacks.linked_file, follow_links),
        (attacks.linked_folder, follow_links),
        (attacks.chained_links, follow_links),
        (attacks.linked_file, take_all_for_inside),
        (attacks.linked_folder, take_all_for_inside),
    ],
)
def test_without_its_guard_a_path_leads_to_the_secret(
    attack: Attack, without_guard: Callable[[Patch], Any], tmp_path: Path, monkeypatch: Patch
) -> None:
    root = attack(tmp_path)
    with pytest.raises(InputError):
        read_listed(root)
    without_guard(monkeypatch)
    assert read_listed(root) == attacks.SECRET


def test_without_opening_folder_by_folder_a_swapped_link_leads_to_the_secret(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    root = attacks.link_to_be_swapped(tmp_path)
    [item] = Maestro().items(str(root))
    look = storage._is_below

    def look_and_swap(real_root: str, real_path: str) -> bool:
        found = look(real_root, real_path)
        attacks.swap_link(root)
        return found

    def check_then_open(folder: str, path: str) -> int:
        whole = os.path.join(folder, path)
        assert storage._is_below(os.path.realpath(folder), os.path.realpath(whole))
        return os.open(whole, os.O_RDONLY)

    monkeypatch.setattr(storage, "_is_below", look_and_swap)
    monkeypatch.setattr(storage, "_open_below", check_then_open)
    assert Maestro().read(item, str(root)) == attacks.SECRET


def test_without_looking_at_the_kind_of_file_a_pipe_is_read(tmp_path: Path, monkeypatch: Patch) -> None:
    root = attacks.pipe_named_like_music(tmp_path)
    monkeypatch.setattr(storage, "stat", SimpleNamespace(S_ISREG=lambda _: True))
    assert read_listed(root) == b""


def plain_name(_: str, entry: Any) -> str:
    """The name as the archive has it."""
    return str(entry.orig_filename)


@pytest.mark.parametrize(
    ("attack", "guard", "instead", "name"),
    [
        (attacks.zip_slip, "_safe_name", plain_name, "../../evil.mid"),
        (attacks.zip_slip_of_windows, "_safe_name", plain_name, "..\\..\\evil.mid"),
        (attacks.zip_bomb_of_many, "_check_total", nothing, "000.mid"),
        pytest.param(attacks.zip_of_very_many, "MOST_MEMBERS", 1 << 30, "00000", marks=pytest.mark.slow),
        (attacks.zip_bomb_of_overlaps, "_ends", lambda _, entries, start: [start] * len(entries), "b.mid"),
    ],
)
def test_without_its_guard_an_archive_is_listed(
    attack: Attack, guard: str, instead: Any, name: str, tmp_path: Path, monkeypatch: Patch
) -> None:
    path = str(attack(tmp_path))
    with pytest.raises(InputError):
        storage.list_files(path)
    monkeypatch.setattr(archive, guard, instead)
    assert name in storage.list_files(path)


@pytest.mark.parametrize(
    ("attack", "name", "guard", "instead", "gained"),
    [
        (attacks.zip_bomb, "bomb.mid", "LARGEST_RATIO", 1 << 30, bytes(48 << 20)),
        (attacks.zip_with_false_size, "liar.mid", "_unpacked", lambda _, stored: zlib.decompress(stored, -15),
         bytes(8 << 20)),
        (attacks.zip_with_two_of_a_name, "same.mid", "_oddity", nothing, attacks.SECRET),
        (attacks.zip_damaged, "sound.mid", "_unpacked", lambda _, stored: stored, None),
    ],
)  # fmt: skip
def test_without_its_guard_an_odd_member_is_read(
    attack: Attack, name: str, guard: str, instead: Any, gained: bytes | None, tmp_path: Path, monkeypatch: Patch
) -> None:
    path = attack(tmp_path)
    with pytest.raises(InputError):
        read_member(path, name)
    archive._archive_as_it_is.cache_clear()
    monkeypatch.setattr(archive, guard, instead)
    found = read_member(path, name)
    archive._archive_as_it_is.cache_clear()
    assert found == gained if gained is not None else found != attacks.SOUND


def test_without_its_guard_all_that_a_member_states_to_store_is_read(tmp_path: Path, monkeypatch: Patch) -> None:
    path = attacks.zip_with_false_stored_size(tmp_path)
    monkeypatch.setattr(archive, "_FREE_OF_LOSS", 1 << 30)
    archive._archive_as_it_is.cache_clear()
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            read_member(path, "hole.mid")
        assert tracemalloc.get_traced_memory()[1] > 80 << 20
    finally:
        tracemalloc.stop()
        archive._archive_as_it_is.cache_clear()


@pytest.mark.parametrize(
    ("attack", "name"), [(attacks.zip_with_link, "link.mid"), (attacks.zip_encrypted, "sound.mid")]
)
def test_without_its_guard_a_link_or_a_locked_member_is_taken_for_music(
    attack: Attack, name: str, tmp_path: Path, monkeypatch: Patch
) -> None:
    path = attack(tmp_path)
    with pytest.raises(InputError):
        read_member(path, name)
    archive._archive_as_it_is.cache_clear()
    monkeypatch.setattr(archive, "_oddity", nothing)
    assert read_member(path, name)
    archive._archive_as_it_is.cache_clear()


@pytest.mark.parametrize(
    ("attack", "module", "guard", "instead"),
    [
        (attacks.score_with_entities, musicxml, "_ENTITY", "<!NOTHING"),
        (attacks.score_that_is_a_bomb, archive, "_oddity", nothing),
    ],
)
def test_without_its_guard_a_score_that_swells_reaches_the_parser(
    attack: Attack, module: Any, guard: str, instead: Any, tmp_path: Path, monkeypatch: Patch
) -> None:
    data = (attack(tmp_path) / "evil.mxl").read_bytes()
    with pytest.raises(InputError):
        musicxml.score_text(data, "evil.mxl")
    monkeypatch.setattr(module, guard, instead)
    monkeypatch.setattr(musicxml, "LARGEST_SCORE", 1 << 30)
    assert len(musicxml.score_text(data, "evil.mxl")) > 100


def plain_decoder(*_: Any) -> json.JSONDecoder:
    """Python's own."""
    return json.JSONDecoder()


@pytest.mark.parametrize(
    ("attack", "module", "guard", "instead"),
    [
        (attacks.huge_json, maestro_metadata, "LARGEST_METADATA", 1 << 30),
        (attacks.deep_json, documents, "_check_brackets", nothing),
        (attacks.json_with_many_lists, documents, "_check_brackets", nothing),
        (attacks.json_with_a_key_twice, documents, "_decoder", plain_decoder),
    ],
)
def test_without_its_guard_a_json_is_parsed(
    attack: Attack, module: Any, guard: str, instead: Any, tmp_path: Path, monkeypatch: Patch
) -> None:
    root = str(attack(tmp_path))
    name = "maestro-v3.0.0.json"
    parsed: list[Any] = []
    monkeypatch.setattr(maestro_metadata, "_row_oriented", lambda _, values: parsed.append(values) or [])
    monkeypatch.setattr(maestro_metadata, "_column_oriented", lambda _, values: parsed.append(values) or [])
    with pytest.raises(InputError):
        list(maestro_metadata._records(root, name))
    assert not parsed
    monkeypatch.setattr(module, guard, instead)
    list(maestro_metadata._records(root, name))
    assert parsed


def test_without_its_guard_a_column_given_twice_decides_the_split(tmp_path: Path, monkeypatch: Patch) -> None:
    root = attacks.csv_with_a_column_twice(tmp_path)
    monkeypatch.setattr(maestro_metadata, "_check_columns", nothing)
    [item] = Maestro().items(str(root))
    assert item.split == "test"


def test_without_the_limit_of_a_field_a_huge_csv_is_read(tmp_path: Path) -> None:
    root = attacks.csv_with_a_huge_field(tmp_path)
    before = maestro_metadata.csv.field_size_limit(1 << 30)
    try:
        [item] = Maestro().items(str(root))
    finally:
        maestro_metadata.csv.field_size_limit(before)
    assert len(item.group) > 10 << 20


@pytest.mark.parametrize(
    ("attack", "module", "guard", "instead"),
    [
        (attacks.deep_toml, documents, "_check_values", nothing),
        (attacks.huge_number, command_line, "_bounded", lambda value: value),
    ],
)
def test_without_its_guard_a_configuration_is_taken(
    attack: Attack, module: Any, guard: str, instead: Any, tmp_path: Path, monkeypatch: Patch
) -> None:
    path = str(attack(tmp_path))

    def taken() -> Any:
        values = read_config(path)["seed"]
        return values if isinstance(values, list) else config_settings(path, SETTINGS, {})["build"]["seed"]

    with pytest.raises(command_line.UsageError):
        taken()
    monkeypatch.setattr(module, guard, instead)
    assert taken() in (10**90, read_config(path)["seed"])


def test_without_its_guard_nan_is_taken_for_a_limit(tmp_path: Path, monkeypatch: Patch) -> None:
    path = str(attacks.number_that_is_none(tmp_path))
    monkeypatch.setattr(documents, "_decoder", plain_decoder)
    value = read_config(path)["max_seconds"]
    assert value != value


def test_without_its_guard_a_key_of_many_parts_reaches_the_parser(tmp_path: Path, monkeypatch: Patch) -> None:
    path = str(attacks.toml_of_many_dots(tmp_path))
    parsed: list[str] = []
    monkeypatch.setattr(documents, "tomllib", SimpleNamespace(loads=lambda text: parsed.append(text) or {}))
    with pytest.raises(command_line.UsageError):
        read_config(path)
    assert not parsed
    monkeypatch.setattr(documents, "_dotted_parts", lambda _: 0)
    read_config(path)
    assert parsed


def test_the_pickle_of_the_attacks_runs_what_it_says_when_somebody_loads_it(tmp_path: Path, monkeypatch: Patch) -> None:
    data = attacks.pickle_that_makes(tmp_path / "pwned")
    (tmp_path / "x.json").write_bytes(data)
    monkeypatch.setattr(documents, "parse_json", lambda raw, *_, **__: {"loaded": pickle.loads(raw)})
    read_config(str(tmp_path / "x.json"))
    assert (tmp_path / "pwned").is_dir()


def test_without_redaction_a_secret_stays_in_the_arguments(monkeypatch: Patch) -> None:
    words = ["--api-token=S3cr3t", "https://u:S3cr3t@host"]
    assert "S3cr3t" not in " ".join(redaction.redacted(words))
    monkeypatch.setattr(redaction, "is_secret_name", lambda _: False)
    monkeypatch.setattr(redaction, "_plain_address", lambda word: word)
    assert " ".join(redaction.redacted(words)).count("S3cr3t") == 2
