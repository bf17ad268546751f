"""What holds for the whole tree: every module says its purpose, none is too long, the core needs no extra."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("schemas", "media", "beam_pipelines", "trainer")
MODULES = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("*.py"), *(found for package in PACKAGES for found in (ROOT / package).rglob("*.py"))]
)
LONGEST = 400
CORE = {"numpy", "google", "google_crc32c", "symusic", "platformdirs", "pySmartDL"}
CORE_MODULES = (
    "schemas.manifest",
    "schemas.representations",
    "schemas.representations.events",
    "schemas.record",
    "media.midi",
    "stretto",
    "commands",
    "command_line",
    "doctor",
)
ONLY_CORE = """
import importlib, importlib.abc, json, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names and not own(top):
            raise ModuleNotFoundError(f"No module named {name!r}: it is in no core package", name=name)
def own(top):
    return top in ("schemas", "media", "beam_pipelines", "trainer", "stretto", "commands", "command_line", "doctor")
allowed = set(json.loads(sys.argv[1]))
sys.meta_path.insert(0, Absent())
for name in sys.argv[2:]:
    importlib.import_module(name)
"""


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_every_module_says_its_purpose_first_and_is_short(path: Path) -> None:
    text = (ROOT / path).read_text()
    purpose = ast.get_docstring(ast.parse(text)) or ""
    assert purpose.partition("\n")[0].strip(), f"{path} has no docstring"
    assert len(text.splitlines()) <= LONGEST, f"{path} is longer than {LONGEST} lines: it has two subjects"


def test_the_core_is_imported_without_any_extra() -> None:
    words = [sys.executable, "-c", ONLY_CORE, json.dumps(sorted(CORE)), *CORE_MODULES]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_lock_pins_what_setup_py_and_requirements_in_name() -> None:
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in _lines("requirements.lock") if "==" in line}
    wanted = {_name(line) for line in _lines("requirements.in")}
    assert wanted <= pinned


def test_every_test_that_a_promise_names_is_there() -> None:
    named = set(re.findall(r"tests/[\w/]+\.(?:py|csv)", (ROOT / "SECURITY.md").read_text()))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_ci_runs_what_a_newcomer_runs() -> None:
    assert "make check test" in (ROOT / ".ci" / "run").read_text()
    assert "make check test" in (ROOT / "cloudbuild.yaml").read_text()


def _lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if line[:1].isalpha()]


def _name(requirement: str) -> str:
    name = "".join(letter if letter.isalnum() or letter in "-_" else " " for letter in requirement).split()[0]
    return name.lower().replace("_", "-")
