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
# Modules that hand on a reason beside its sentence or its limit.
_GIVES_PAIRS = {"archive.py", "grid.py", "limits.py", "music21_chorales.py"}
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


@pytest.mark.parametrize(
    "document",
    [
        "SECURITY.md",
        *(
            f"docs/{name}.md"
            for name in ("reliability", "formats", "measures", "reading-shards", "results", "training")
        ),
    ],
)
def test_every_file_that_a_document_names_is_there(document: str) -> None:
    named = set(re.findall(r"(?<=`)[\w/]+\.(?:py|csv)(?=`)", (ROOT / document).read_text()))
    files = {path.as_posix() for path in [*MODULES, *(found.relative_to(ROOT) for found in ROOT.glob("tests/**/*.*"))]}
    missing = {name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)}
    assert not missing


@pytest.mark.parametrize("document", ["SECURITY.md", "docs/reliability.md"])
def test_every_promise_names_the_test_that_attacks_it(document: str) -> None:
    rows = [line for line in (ROOT / document).read_text().splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith(("| promise", "| ---"))]
    assert len(promises) > 8
    assert [row for row in promises if not re.search(r"`(?:tests/[\w/]*)?test_\w+\.py`|`make fuzz`", row)] == []


def test_every_reason_for_which_an_input_is_not_written_is_documented() -> None:
    used = {reason for path in MODULES if path.parts[0] in PACKAGES for reason in _reasons(path)}
    assert {"missing-file", "archive-link", "two-splits", "too-dense", "duplicate", "killed", "not-four-parts"} <= used
    listed = _listed_reasons("docs/formats.md") | _listed_reasons("media/midi.py")
    # No corpus reads serialised NoteSequences: these are what `parse_note_sequence` tells its caller.
    assert used - listed == {"not-note-sequence", "bad-value"}
    assert listed - used == set()


def _listed_reasons(document: str) -> set[str]:
    """The words of the first column of tables whose first column is called reason."""
    found: set[str] = set()
    for table in re.findall(r"^\| reason.*\n\|[ -|]*\n((?:\|.*\n)+)", (ROOT / document).read_text(), re.MULTILINE):
        cells = [row.split("|")[1].strip() for row in table.splitlines()]
        found.update(word for cell in cells if "/" not in cell for word in cell.replace("`", "").split(", "))
    return found


def _reasons(path: Path) -> set[str]:
    """Reasons that a module gives: in what it raises or returns, and written before a colon for a listing to refuse."""
    tree = ast.parse((ROOT / path).read_text())
    named = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.targets[0], ast.Name)
    }
    place = {"Unreadable": 0, "Damage": 0, "InvalidMusic": 0, "Skip": 0, "Refusal": 1, "Twin": 1}
    found: list[object] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in place and node.args:
            reason = node.args[place[node.func.id]]
            found.append(named.get(reason.id) if isinstance(reason, ast.Name) else getattr(reason, "value", None))
        elif isinstance(node, ast.Tuple | ast.List) and len(node.elts) > 1 and isinstance(node.elts[0], ast.Constant):
            first = str(node.elts[0].value)
            found.append(first if path.name in _GIVES_PAIRS and "-" in first else None)
        elif isinstance(node, ast.JoinedStr) and path.name == "maestro.py" and isinstance(node.values[0], ast.Constant):
            found.append(str(node.values[0].value).partition(": ")[0])
    return {word for word in found if isinstance(word, str) and re.fullmatch(r"[a-z]+\d?(?:-[a-z\d]+)*", word)}


def test_ci_runs_what_a_newcomer_runs() -> None:
    assert "make check test" in (ROOT / ".ci" / "run").read_text()
    assert "make check test" in (ROOT / "cloudbuild.yaml").read_text()


def _lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if line[:1].isalpha()]


def _name(requirement: str) -> str:
    name = "".join(letter if letter.isalnum() or letter in "-_" else " " for letter in requirement).split()[0]
    return name.lower().replace("_", "-")
