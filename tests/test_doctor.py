"""The doctor: what it looks at, that it names a remedy, and that its verdict is its exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import doctor
from doctor import Check, Doctor


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    executable = Path(sys.executable).with_name("stretto")
    return subprocess.run([executable, "doctor", *words], capture_output=True, text=True, timeout=300)


def checks(**settings: object) -> dict[str, Check]:
    return {check.name: check for check in doctor.examine(Doctor(**settings))}  # type: ignore[arg-type]


def test_everything_is_looked_at_once() -> None:
    found = [check.name for check in doctor.examine(Doctor())]
    assert len(found) == len(set(found))
    expected = {"Python", "google-crc32c", "disk", "memory", "accelerator", "extra pipelines", "extra trainer", "sound"}
    assert expected <= set(found)


def test_a_status_is_one_of_three_and_a_fault_names_a_remedy() -> None:
    for check in doctor.examine(Doctor()):
        assert check.status in ("ok", "note", "fault")
        assert check.status != "fault" or check.remedy


def test_the_exit_code_says_whether_the_machine_is_able() -> None:
    done = typed("--json")
    told = json.loads(done.stdout)
    assert done.returncode == (0 if told["able"] else 4)
    assert {check["name"] for check in told["checks"]} == set(checks())
    assert doctor.code_of([Check("a", "ok", ""), Check("b", "note", "")]) == 0
    assert doctor.code_of([Check("a", "ok", ""), Check("b", "fault", "")]) == 4


def test_words_show_each_remedy_below_its_check_and_the_verdict_last() -> None:
    text = doctor.as_text([Check("disk", "ok", "9 GB"), Check("sound", "fault", "no SoundFont", "pip install it")])
    lines = text.splitlines()
    assert lines[1].startswith("fault  sound") and lines[2].strip() == "pip install it"
    assert lines[-1].startswith("this machine is not able")


def test_a_missing_extra_is_named_with_the_command_that_adds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "has_distribution", lambda name: name not in ("keras", "music21", "tensorflow-cpu"))
    monkeypatch.setattr(doctor, "version", lambda name: "1.0")
    found = {check.name: check for check in doctor.extras()}
    assert (found["extra trainer"].status, found["extra trainer"].found) == ("fault", "missing: keras")
    assert found["extra trainer"].remedy == "pip install 'stretto[trainer]'"
    assert (found["extra music21"].status, found["extra music21"].remedy) == ("note", "pip install 'stretto[music21]'")
    assert found["extra pipelines"].status == found["extra tensorflow"].status == "ok"


def test_without_tensorflow_the_doctor_says_that_jax_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "has_distribution", lambda name: False)
    assert doctor.tensorflow().status == "note" and "JAX" in doctor.tensorflow().found


def test_another_owner_of_one_of_our_modules_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    owners = {
        "trainer": ["stretto", "pytorch-trainer"],
        "schemas": ["schemas"],
        "media": ["stretto"],
        "numpy": ["numpy"],
    }
    monkeypatch.setattr(doctor, "packages_distributions", lambda: owners)
    found = list(doctor.clashes())
    assert [check.name for check in found] == ["name schemas", "name trainer"]
    assert all(check.status == "fault" for check in found) and "pytorch-trainer" in found[1].found


def test_little_disk_is_worth_a_note_and_a_folder_not_made_yet_counts_as_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert str(tmp_path) in doctor.disk(str(tmp_path / "not" / "yet")).found
    monkeypatch.setattr(doctor, "ENOUGH_DISK_GB", 1e9)
    assert doctor.disk(str(tmp_path)).status == "note"


def test_nothing_to_render_with_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed", lambda name: False)
    assert "tinysoundfont" in doctor.renderer().remedy
    monkeypatch.setattr(doctor, "packed_soundfonts", list)
    monkeypatch.setattr(doctor, "SOUNDFONTS", ())
    assert doctor.renderer().found == "no SoundFont"


def test_a_broken_backend_is_told_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.TRIALS, "jax", "raise SystemExit('no device found')")
    assert doctor.trial("jax") == Check(
        "trial jax", "fault", "no device found", "try it by hand: python -c 'import jax'"
    )


@pytest.mark.slow
def test_a_deep_look_multiplies_two_matrices_on_each_installed_backend() -> None:
    found = {check["name"]: check for check in json.loads(typed("--deep", "--json").stdout)["checks"]}
    for backend in doctor.TRIALS:
        assert doctor.installed(backend) == (f"trial {backend}" in found)
        assert found.get(f"trial {backend}", {"status": "ok"})["status"] == "ok"


def test_every_extra_of_the_package_that_holds_modules_is_known() -> None:
    text = (Path(doctor.__file__).parent / "setup.py").read_text()
    for extra, package in doctor.MODULES.values():
        assert f'"{extra}": ' in text, extra
        assert package in text, package
