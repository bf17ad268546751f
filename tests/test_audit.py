"""`make audit` fails where something is known against a pin, and where nobody could be asked; every pin has hashes."""

import json
import stat
from pathlib import Path

import pytest

from tests import audit
from tests.conftest import ROOT

SOUND = {"name": "numpy", "version": "2", "vulns": []}
SKIPPED = {"name": "numpy", "skip_reason": "Dependency not found on PyPI"}
KNOWN = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["3"]}


def service(folder: Path, *dependencies: dict[str, object], words: str = "", code: int = 0) -> str:
    """A program that answers as pip-audit does."""
    answer = json.dumps({"dependencies": dependencies}) if dependencies else ""
    program = folder / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\necho '{words}' >&2\nexit {code}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_sound_pins_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(service(tmp_path, SOUND), ["a.lock", "b.lock"]) == 0
    assert "b.lock: 1 packages were looked up, 0 findings are open" in capsys.readouterr().out


def test_a_known_vulnerability_fails_with_its_fix_until_it_is_accepted_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = service(tmp_path, {**SOUND, "vulns": [KNOWN]}, code=1)
    assert audit.main(program, ["a.lock"]) == 1
    assert "numpy 2: PYSEC-1, CVE-1, fixed in 3." in capsys.readouterr().out
    monkeypatch.setitem(audit.ACCEPTED, "CVE-1", "We never call it.")
    assert audit.main(program, ["a.lock"]) == 0
    assert "We never call it." in capsys.readouterr().out


def test_a_service_that_knows_nothing_is_no_clean_bill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(service(tmp_path, SKIPPED, SOUND, words="No known vulnerabilities found"), ["a.lock"]) == 4
    assert "NOT AUDITED" in capsys.readouterr().out


def test_a_service_that_cannot_be_reached_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(service(tmp_path, words="Failed to resolve host", code=1), ["a.lock"]) == 4
    assert "Failed to resolve host" in capsys.readouterr().out


@pytest.mark.parametrize("lock", sorted(path.name for path in ROOT.glob("requirements*.lock")))
def test_every_pin_of_a_lock_has_hashes(lock: str) -> None:
    lines = (ROOT / lock).read_text().splitlines()
    pins = [number for number, line in enumerate(lines) if line[:1].isalnum()]
    assert pins
    for number in pins:
        assert "==" in lines[number] and lines[number + 1].strip().startswith("--hash=sha256:"), lines[number]
