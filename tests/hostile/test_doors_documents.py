"""Documents that would fill memory, recurse, mislead or run are refused by name; no file is ever unpickled."""

import ast
import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_pipelines.config import Build
from beam_pipelines.corpora.cache import read_entry
from beam_pipelines.corpora.maestro import Maestro
from beam_pipelines.corpora.midi import MidiFolder
from beam_pipelines.describe import inspect
from beam_pipelines.verify import verify
from command_line import Group, config_settings, read_config
from schemas.documents import parse_json, parse_toml, read_json
from schemas.errors import InputError, StrettoError, Unreadable, UsageError
from schemas.manifest import read_manifest
from tests.beam_pipelines.tiny_dataset import entries, seal, write_dataset
from tests.conftest import ROOT
from tests.hostile import attacks

METADATA = {
    attacks.huge_json: r"maestro-v3\.0\.0\.json: .*more than|maestro-v3\.0\.0\.json: .*files over 16777216",
    attacks.deep_json: r"maestro-v3\.0\.0\.json: nested more than 4 deep",
    attacks.json_with_many_lists: r"maestro-v3\.0\.0\.json: more than 1,048,576 lists",
    attacks.json_with_a_key_twice: r"maestro-v3\.0\.0\.json: .*'0' stands twice",
    attacks.csv_with_a_huge_field: r"maestro-v3\.0\.0\.csv, line \d: .*field larger than field limit",
    attacks.csv_with_a_column_twice: r"maestro-v3\.0\.0\.csv: column 'split' is there twice",
}
CONFIGS = {
    attacks.deep_toml: r"evil\.toml: nested more than 8 deep",
    attacks.toml_of_many_dots: r"evil\.toml: a key of more than 8 parts",
    attacks.huge_number: r"evil\.toml: seed: 10+ does not fit into 64 bits",
    attacks.number_that_is_none: r"evil\.json: .*NaN is no number",
}
PRODUCT = ("schemas", "media", "beam_pipelines", "trainer", "infra")
SETTINGS = (Group("build", "build", Build, hidden=frozenset({"corpus", "representation"})),)


@pytest.mark.parametrize(("attack", "message"), METADATA.items())
def test_metadata_that_attack_are_refused_with_their_name(
    attack: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        list(Maestro().items(str(attack(tmp_path))))


@pytest.mark.parametrize(("attack", "message"), CONFIGS.items())
def test_a_configuration_that_attacks_is_refused_with_its_name(
    attack: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        config_settings(str(attack(tmp_path)), SETTINGS, {})


def in_place_of_metadata(base: Path, data: bytes) -> None:
    root = attacks.place(base)
    for kind in ("json", "csv"):
        path = root / f"maestro-v3.0.0.{kind}"
        path.write_bytes(data)
        try:
            list(Maestro().items(str(root)))
        finally:
            path.unlink()


def in_place_of_a_configuration(base: Path, data: bytes) -> None:
    for name in ("x.toml", "x.json", "x.pkl"):
        (base / name).write_bytes(data)
        with pytest.raises(UsageError):
            read_config(str(base / name))
    raise UsageError("each of them")


def in_place_of_music(base: Path, data: bytes) -> None:
    root = attacks.place(base)
    (root / "2004" / "sound.midi").write_bytes(data)
    [item] = MidiFolder().items(str(root))
    MidiFolder().parse(item, str(root))


def in_place_of_an_archive(base: Path, data: bytes) -> None:
    (base / "x.zip").write_bytes(data)
    list(MidiFolder().items(str(base / "x.zip")))


def in_place_of_a_manifest(base: Path, data: bytes) -> None:
    folder = Path(write_dataset(str(base / "data"), entries(2, 1, 1), 1))
    (folder / "manifest.json").write_bytes(data)
    seal(str(folder))
    read_manifest(str(folder))


def in_place_of_statistics(base: Path, data: bytes) -> None:
    folder = Path(write_dataset(str(base / "data"), entries(2, 1, 1), 1))
    (folder / "stats.json").write_bytes(data)
    inspect(str(folder))


def in_place_of_any_file_of_a_dataset(base: Path, data: bytes) -> None:
    folder = Path(write_dataset(str(base / "data"), entries(2, 1, 1), 1))
    names = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in ("manifest.json",)]
    for path in names:
        before = path.read_bytes()
        path.write_bytes(data)
        assert verify(str(folder)).exit_code == 5, path
        path.write_bytes(before)
    assert len(names) > 8
    raise InputError("each of them")


def in_place_of_a_cache_entry(base: Path, data: bytes) -> None:
    (base / "entry.json").write_bytes(data)
    assert read_entry(str(base / "entry.json")) is None
    raise InputError("made again")


PLACES = [value for name, value in list(globals().items()) if name.startswith("in_place_of_")]


@pytest.mark.parametrize("stand_in", PLACES)
def test_a_pickle_in_the_place_of_any_file_is_refused_and_not_loaded(
    stand_in: Callable[[Path, bytes], None], tmp_path: Path
) -> None:
    with pytest.raises((StrettoError, Unreadable)):
        stand_in(tmp_path, attacks.pickle_that_makes(tmp_path / "pwned"))
    assert not (tmp_path / "pwned").exists()


def test_a_document_that_is_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    root = attacks.pipe_named_like_music(tmp_path)
    with pytest.raises(InputError, match="not a regular file"):
        read_json(root / "2004" / "pipe.midi")
    with pytest.raises(UsageError, match="not a regular file"):
        read_config(str(root / "2004" / "pipe.midi"))


def test_the_limit_of_a_csv_field_is_that_of_python() -> None:
    assert csv.field_size_limit() <= 131_072


def test_json_and_toml_refuse_the_same_numbers() -> None:
    for json, toml in (("[NaN]", "a = nan"), ("[1e999]", "a = 1e999"), (f"[{10**100}]", f"a = {10**100}")):
        with pytest.raises(InputError):
            parse_json(json, "x")
        with pytest.raises(InputError):
            parse_toml(toml, "x")


def product_files() -> list[Path]:
    return [
        path
        for package in PRODUCT
        for path in sorted((ROOT / package).rglob("*.py"))
    ] + sorted(ROOT.glob("*.py"))  # fmt: skip


def test_no_module_of_the_product_can_load_a_pickle_or_run_a_text() -> None:
    forbidden_modules = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "code", "runpy"}
    forbidden_calls = {"eval", "exec", "compile", "__import__", "system", "popen", "load_model", "loads_pickle"}
    found = []
    for path in product_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name}: imports {name}" for name in names if name.split(".")[0] in forbidden_modules]
            if isinstance(node, ast.Call):
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                of_re = isinstance(function, ast.Attribute) and getattr(function.value, "id", "") in ("re", "model")
                found += [f"{path.name}: calls {name}"] if name in forbidden_calls and not of_re else []
                keywords = {word.arg for word in node.keywords if getattr(word.value, "value", True) is not False}
                found += [f"{path.name}: {word}" for word in ("shell", "allow_pickle") if word in keywords]
    assert found == []
    assert len(product_files()) > 80
