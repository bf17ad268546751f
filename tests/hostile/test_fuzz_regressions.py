"""What fuzzing found once is read or refused today, on every Python, without the fuzzer; its tools do what they say."""

import importlib
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from media.midi import read_midi
from media.musicxml import read_musicxml
from schemas.errors import Unreadable
from tests.hostile.fuzz.midi_grammar import made_file
from tests.hostile.fuzz.musicxml_grammar import made_score
from tests.hostile.fuzz.run import ROOT, TARGETS, figures, shortest

REGRESSIONS = Path(__file__).parent / "fuzz" / "regressions"
KEPT = sorted(path.relative_to(REGRESSIONS).as_posix() for path in REGRESSIONS.glob("*/*"))


def target(name):
    if name == "musicxml":
        pytest.importorskip("music21")
    return importlib.import_module(f"tests.hostile.fuzz.{name}")


@pytest.mark.parametrize("name", KEPT)
def test_what_was_found_once_is_found_no_more(name):
    target(Path(name).parts[0]).attack((REGRESSIONS / name).read_bytes())


def test_every_kept_input_is_small_and_belongs_to_a_target():
    assert {Path(name).parts[0] for name in KEPT} <= set(TARGETS)
    assert all((REGRESSIONS / name).stat().st_size < 1 << 16 for name in KEPT)


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_and_what_is_made_of_them_pass(name):
    module, draw = target(name), Random(name)
    seeds = list(module.seeds())
    assert len(seeds) > 4 and all(len(seed) <= module.LONGEST for seed in seeds)
    for number in range(150):
        data = module.mutated(draw.choice(seeds), Random(number), lambda part: part[::-1])
        module.attack(data)


def test_the_grammar_gets_past_the_first_checks_of_a_file():
    reasons, accepted = set(), 0
    for number in range(400):
        try:
            accepted += len(read_midi(made_file(Random(number)), "made").notes) > 0
        except Unreadable as error:
            reasons.add(error.reason)
    assert accepted > 20 and {"damaged-midi", "bad-format", "bad-division"} <= reasons


def test_the_grammar_of_scores_gets_past_the_first_checks_of_a_file():
    pytest.importorskip("music21")
    refusals, accepted = [], 0
    for number in range(100):
        try:
            accepted += len(read_musicxml(made_score(Random(number)), "made").notes) > 0
        except Unreadable as error:
            refusals.append(str(error))
    assert accepted > 20 and any("outside 0 to 127" in refusal for refusal in refusals)


def test_an_input_is_made_short_while_it_still_does_what_it_did():
    data = bytes(Random(0).randbytes(2000)) + b"needle" + bytes(500)
    assert shortest(data, lambda part: b"needle" in part) == b"needle"


def test_the_fuzzers_own_figures_are_read_from_its_log():
    log = "#8 NEW cov: 12 ft: 3 corp: 4/9b\n#99 DONE cov: 31 ft: 40 corp: 17/2Kb\nstat::number_of_executed_units: 99\n"
    found = figures(log + "stat::peak_rss_mb:   65\n")
    assert (found["executions"], found["coverage"], found["corpus"], found["peak_megabytes"]) == (99, 31, 17, 65)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_some_seconds_of_fuzzing_find_nothing(name, tmp_path):
    pytest.importorskip("atheris", reason="NOT FUZZED: atheris is not installed; `make fuzz` installs it")
    words = [sys.executable, "-m", "tests.hostile.fuzz.run", "--seconds", "15", "--target", name]
    done = subprocess.run([*words, "--folder", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{name}: exit code 0, executions " in done.stdout and "executions 0," not in done.stdout
