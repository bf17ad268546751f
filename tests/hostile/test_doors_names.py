"""Names that would be run, taken for options, drawn on a page or steer a terminal are names and nothing else."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from beam_pipelines import reading_process, worker
from schemas.errors import UsageError
from schemas.music import PART_NAMES, Notes, Piece
from schemas.representations import from_settings
from tests.beam_pipelines.midi_files import midi_folder
from trainer import monitor
from trainer.config import run_from_json
from trainer.given import kept_voices

STRETTO = Path(sys.executable).with_name("stretto")
SHELL = (
    "-rf --output=x;touch pwned;$(touch pwned)`touch pwned`|touch pwned&'touch pwned'\"touch pwned\"\ntouch pwned\n#"
)
"""A name that a shell would run in each of its ways, and that begins like an option."""
FILES = [
    "--output=x.mid",
    "-rf.mid",
    "$(touch pwned).mid",
    "`touch pwned`;touch pwned.mid",
    "new\nline.mid",
    "\x1b]0;title\x07\x1b[31mred.mid",
    "<img src=x onerror=alert(1)>.mid",
    "{0.__class__}%s%n.mid",
]
MODULES = ("logging", "ctypes", "json", "shlex", "numpy", "symusic", "apache_beam", "apitools", "grpc", "tomllib")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that a stranger made, to be stood in: modules of well-known names, which leave a mark when they run."""
    folder = tmp_path / "download"
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"open({str(folder / 'pwned')!r}, 'w').close()\n")
    return folder


def stretto(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([STRETTO, *words], cwd=place, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_build_among_hostile_names_runs_none_of_them(workers: str, place: Path) -> None:
    music = midi_folder(place / f"{SHELL}in", len(FILES))
    for number, name in enumerate(FILES):
        (music / f"{number:03d}.mid").rename(music / name)
    damaged = ["<img src=x onerror=alert(2)>$(touch pwned).mid", "<img src=x onerror=alert(2)>\x1b[31m.mid"]
    for name in damaged:
        (music / name).write_bytes(b"no music")
    (music / "x.\x1b[32m").write_bytes(b"")
    output = f"{SHELL}out"
    options = ("--workers", workers, "--max-bad=50%", "--splits=train=0.9,validation=0.1")
    done = stretto(place, "prepare", "midi", f"--input={music.name}", f"--output={output}", *options)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (place / output / "items.jsonl").read_text().splitlines()]
    assert len(lines) == len(FILES) + len(damaged)
    assert sum(line["status"] == "written" for line in lines) == len(FILES)
    shown = [done, stretto(place, "verify", f"./{output}"), stretto(place, "inspect", f"./{output}", "--html=p.html")]
    shown.append(stretto(place, "prepare", "midi", f"--input={music.name}", "--output=y", "--dry-run"))
    assert [each.returncode for each in shown] == [0, 0, 0, 0]
    assert not [each for each in shown if "\x1b" in each.stdout + each.stderr]
    for page in (place / "p.html", place / output / "report.html"):
        assert "onerror=alert(2)" in page.read_text() and "<img src=x" not in page.read_text()
    assert not (place / "pwned").exists() and not (place / "x").exists()


def run_in(place: Path, command: str | list[str]) -> bool:
    """Whether a command, run where the stranger wants it, leaves the mark."""
    subprocess.run(command, shell=isinstance(command, str), cwd=place, stdin=subprocess.DEVNULL, capture_output=True)
    return (place / "pwned").exists()


def test_a_worker_runs_neither_its_folder_nor_the_modules_of_the_current_one(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = worker.command(str(place / SHELL))
    assert not run_in(place, command)
    assert run_in(place, command.replace(" -P -c ", " -c "))
    (place / "pwned").unlink()
    monkeypatch.setattr(worker.shlex, "quote", lambda text: f'"{text}"')
    assert run_in(place, worker.command(str(place / SHELL)))


def test_the_process_that_reads_runs_no_module_of_the_current_folder(place: Path) -> None:
    command = reading_process._command()
    assert not run_in(place, command)
    assert run_in(place, [word.replace("sys.path[:0]", "sys.path[1:1]") for word in command if word != "-P"])


@pytest.mark.parametrize("name", ["-rf", "--bind_all", "~root", "gs://bucket", "a:b,c:d", SHELL])
def test_tensorboard_takes_no_name_of_a_run_for_an_option_or_an_address(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    server = SimpleNamespace(configure=lambda argv: given.extend(argv), launch=lambda: "http://localhost")
    kinds = {"TensorBoardPortInUseError": OSError, "TensorBoardServerException": OSError}
    monkeypatch.setattr(monitor, "_program", lambda: SimpleNamespace(TensorBoard=lambda: server, **kinds))
    monkeypatch.chdir(tmp_path)
    (tmp_path / name / "tensorboard").mkdir(parents=True)
    monitor.launch(monitor.logs_of(name), monitor.Monitor(host="--bind_all"))
    words = dict(word.split("=", 1) for word in given[1:])
    assert words["--logdir"] == str(tmp_path / name / "tensorboard")
    assert words["--host"] == "--bind_all"


@pytest.mark.parametrize("name", ["os:system", "subprocess:run", "../events", "builtins:eval"])
def test_a_name_in_a_strangers_manifest_or_run_imports_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.import_module", lambda module: pytest.fail(f"imported {module}"))
    with pytest.raises(UsageError, match="unknown"):
        from_settings(name, {"command": "touch pwned"})
    values: dict[str, Any] = {"name": name, "family": name, "model": {}, "train": {}}
    with pytest.raises(UsageError, match="unknown"):
        run_from_json(values)


@pytest.mark.parametrize("name", ["1" * 1000 + "x", "i 1" * 333 + "x", "\u0301\u0323" * 200_000])
def test_a_score_whose_parts_bear_endless_names_is_refused_without_pondering_them(name: str) -> None:
    parts = np.arange(1024)
    notes = Notes.of(0 * parts, 0 * parts + 480, 0 * parts + 60, 80, 0, parts)
    with pytest.raises(UsageError, match="has 1024 parts with notes; a score has 4 voices"):
        kept_voices(Piece("choir.musicxml", notes, labels={PART_NAMES: (name,) * 1024}), (), 4)
