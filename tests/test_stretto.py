"""What a user types: exit codes, suggestions, and that an error imports nothing heavy; each command is a process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import stretto
from commands import COMMANDS
from schemas.errors import DivergedError, InputError, Interrupted, MissingExtra, VerificationError

HEAVY = ("keras", "apache_beam", "tensorflow", "jax", "torch", "note_seq", "music21", "orbax", "tensorboard")
TYPE = """
import atexit, json, os, sys
def tell():
    loaded = sorted({name.partition('.')[0] for name in sys.modules})
    os.write(int(sys.argv[-1]), json.dumps(loaded).encode())
atexit.register(tell)
import stretto
sys.exit(stretto.main(sys.argv[1:-1]))
"""


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    """The real command, as installed."""
    executable = Path(sys.executable).with_name("stretto")
    return subprocess.run([executable, *words], capture_output=True, text=True, timeout=60)


def loaded_by(*words: str) -> tuple[int, str, set[str]]:
    """Exit code, standard error and the top-level modules that were imported by one command."""
    reader, writer = os.pipe()
    command = [sys.executable, "-c", TYPE, *words, str(writer)]
    done = subprocess.run(command, capture_output=True, text=True, pass_fds=[writer], timeout=60)
    os.close(writer)
    with os.fdopen(reader) as modules:
        return done.returncode, done.stderr, set(json.load(modules))


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (("prepar", "maestro"), "'prepare'"),
        (("prepare", "mastero", "--output", "x"), "'maestro'"),
        (("prepare", "maestro", "--input", "x", "--output", "y", "--trnspose", "3"), "--transpose"),
        (("prepare", "maestro", "--input", "x", "--output", "y", "--trnspose=-3..3"), "--transpose"),
        (("prepare", "maestro", "--input", "x", "--output", "y", "--representation", "evnets"), "'events'"),
        (("train", "tiny-chorals", "--data", "x", "--output", "y"), "'tiny-chorales'"),
        (("train", "tiny-chorales", "--data", "x", "--output", "y", "--stepps", "3"), "--steps"),
        (("train", "tiny-chorales", "--data", "x", "--output", "y", "--stepps=3"), "--steps"),
        (("train", "tiny-chorales", "--data", "x", "--output", "y", "--backend", "tensorflwo"), "'tensorflow'"),
        (("evaluate", "run", "--splt=test"), "--split"),
        (("sample", "run", "--output", "x", "--tmperature", "1"), "--temperature"),
        (("verify", "data", "--strct"), "--strict"),
    ],
)
def test_a_misspelt_name_or_flag_exits_2_with_the_nearest_one_and_imports_nothing_heavy(
    words: tuple[str, ...], suggestion: str
) -> None:
    code, errors, loaded = loaded_by(*words)
    assert code == 2
    assert errors.startswith("stretto: ") and f"Did you mean {suggestion}?" in errors and "Traceback" not in errors
    assert not loaded.intersection(HEAVY)


@pytest.mark.parametrize("words", [("--help",), ("corpora",), ("prepare", "maestro", "--help"), ("doctor",)])
def test_asking_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    code, _, loaded = loaded_by(*words)
    assert code in (0, 4)
    assert not loaded.intersection(HEAVY)


def test_the_top_level_help_imports_not_even_numpy() -> None:
    assert "numpy" not in loaded_by("--help")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_is_named_in_the_top_level_help(command: str) -> None:
    done = typed(command, "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: stretto {command}")
    assert f"\n  {command} " in stretto.HELP


def test_help_of_a_named_run_and_of_a_corpus_shows_their_own_settings() -> None:
    run = typed("train", "tiny-chorales", "--help").stdout
    assert "--learning-rate X" in run and "--positions" in run and "(default: rotary)" in run
    corpus = typed("prepare", "midi", "--help").stdout
    assert all(
        flag in corpus for flag in ("--group file|folder", "--transpose", "--pitch-range", "--max-bad", "--window")
    )


def test_nothing_typed_is_a_usage_error_that_shows_the_commands() -> None:
    done = typed()
    assert done.returncode == 2 and "usage: stretto COMMAND" in done.stdout


def test_the_runner_behind_two_dashes_is_refused_with_the_right_spelling() -> None:
    for option in (("--runner=FlinkRunner",), ("--runner", "FlinkRunner")):
        done = typed("prepare", "maestro", "--input", "x", "--output", "y", "--", *option)
        assert done.returncode == 2
        assert "stretto prepare maestro --runner FlinkRunner" in done.stderr


def test_a_missing_output_or_input_says_what_to_give() -> None:
    assert "--output DIR is missing" in typed("prepare", "music21-chorales").stderr
    assert "--input FILE is missing. https://" in typed("prepare", "jsb", "--output", "x").stderr
    done = typed("prepare", "maestro", "--output", "x")
    assert done.returncode == 2 and "--input DIR is missing" in done.stderr and "maestro-v3" in done.stderr
    assert "--data DIR is missing" in typed("train", "tiny-chorales", "--output", "x").stderr


@pytest.mark.parametrize(
    ("corpus", "told"),
    [
        ("jsb", "--input FILE                Jsb16thSeparated.json, or the folder or .zip archive that holds it."),
        ("maestro", "--input DIR                 Folder or .zip archive that holds the corpus."),
        ("music21-chorales", "--input DIR                 Folder or .zip archive of other .mxl files; without it"),
    ],
)
def test_help_of_a_corpus_says_what_its_input_is(corpus: str, told: str) -> None:
    assert told in typed("prepare", corpus, "--help").stdout


def test_a_window_that_no_record_can_have_is_named_and_not_its_hop() -> None:
    for form in ("voices", "raster", "events"):
        done = typed("prepare", "jsb", "--input=x", "--output=y", f"--representation={form}", "--window", "-4")
        assert (
            done.returncode == 2 and done.stderr.startswith("stretto: window -4 must lie") and "hop" not in done.stderr
        )


def test_a_size_is_refused_by_a_run_without_sizes_and_chosen_where_there_are_some(tmp_path: Path) -> None:
    done = typed("train", "tiny-chorales", "--size", "tiny", "--data", "x", "--output", "y")
    assert done.returncode == 2 and "leave --size out" in done.stderr
    shown = typed("train", "music-transformer-rotary", "--size", "tiny", "--help").stdout
    assert "--layers N" in shown and "(default: 3)" in shown
    settings = tmp_path / "settings.toml"
    settings.write_text('size = "large"\n')
    shown = typed("train", "music-transformer-rotary", "--config", str(settings), "--help").stdout
    assert "(default: 28)" in shown


def test_an_unknown_key_of_a_configuration_file_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("stepps = 3\n")
    done = typed("train", "tiny-chorales", "--data", "x", "--output", "y", "--config", str(settings))
    assert done.returncode == 2 and "unknown key 'stepps'. Did you mean steps?" in done.stderr


def test_corpora_are_listed_with_licence_and_source() -> None:
    found = {entry["name"]: entry for entry in json.loads(typed("corpora", "--json").stdout)}
    assert {"maestro", "midi", "music21-chorales"} <= found.keys()
    assert all(entry["licence"] and entry["where"] for entry in found.values())
    words = typed("corpora").stdout
    assert all(name in words and entry["licence"] in words for name, entry in found.items())


def test_a_reader_that_goes_away_is_no_error() -> None:
    executable = Path(sys.executable).with_name("stretto")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([executable, "corpora"], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert done.returncode == 141 and done.stderr == ""


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("x.mid: no notes"), 3, "stretto: x.mid: no notes"),
        (VerificationError("x"), 5, "stretto: x"),
        (DivergedError("x"), 6, "stretto: x"),
        (Interrupted("x"), 75, "stretto: x"),
        (MissingExtra("keras", "trainer"), 4, "pip install 'stretto[trainer]'"),
        (ModuleNotFoundError("No module named 'keras'", name="keras"), 4, "pip install 'stretto[trainer]'"),
        (ModuleNotFoundError("x", name="apache_beam.io"), 4, "pip install 'stretto[pipelines]'"),
        (ModuleNotFoundError("x", name="schemas.typo"), 1, "internal error: ModuleNotFoundError"),
        (OSError(28, "No space left on device", "/full/shard"), 4, "disk is full while writing /full/shard"),
        (PermissionError(13, "Permission denied", "/locked/run"), 4, "stretto: /locked/run: Permission denied"),
        (KeyError("boom"), 1, "stretto: internal error: KeyError: 'boom' (-v shows the traceback)"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
    ],
)
def test_every_kind_of_error_has_its_exit_code_and_one_line(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(words: object) -> int:
        raise error

    monkeypatch.setitem(COMMANDS, "corpora", fail)
    assert stretto.main(["corpora"]) == code
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1
    if not isinstance(error, KeyboardInterrupt):
        assert stretto.main(["corpora", "-v"]) == code
        assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_ends_a_command_with_130() -> None:
    program = "import os, signal, stretto, commands\n"
    program += "commands.COMMANDS['corpora'] = lambda words: os.kill(os.getpid(), signal.SIGINT) or 0\n"
    program += "raise SystemExit(stretto.main(['corpora']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130 and signal.Signals.SIGINT.name not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["contextlib", "traceback", "commands", "argparse", "schemas.registry"])
def test_ctrl_c_before_anything_has_begun_ends_with_130_in_silence(module: str) -> None:
    program = "import os, signal, sys\n"
    program += "class Impatient:\n    @staticmethod\n    def find_spec(name, *rest):\n"
    program += f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
    program += f"sys.modules.pop({module!r}, None)\nsys.meta_path.insert(0, Impatient)\nimport stretto\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_stopped_build_leaves_with_its_code_while_its_engine_is_still_in_native_code() -> None:
    program = "import atexit, os, signal, stretto, commands, threading, time\n"
    program += "def fail(words):\n"
    program += "    threading.Thread(target=time.sleep, args=(60,), name='graph', daemon=True).start()\n"
    program += "    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(5)\n"
    # What an abort does to the exit code, at the place where Python would end the engine's threads.
    program += "atexit.register(os.abort)\ncommands.COMMANDS['corpora'] = fail\n"
    program += "raise SystemExit(stretto.main(['corpora']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130 and "stopped by Ctrl-C" in done.stderr
