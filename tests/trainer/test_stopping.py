"""A run that is stopped: saved first, whatever it is at and whoever reads what it says, with its exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from schemas.errors import Interrupted, MachineError, StoppedByHand
from tests.trainer.synthetic import scales
from tests.trainer.test_train import command
from trainer import course, divergence, loop, train
from trainer.checkpoint import Checkpoints
from trainer.config import TrainSettings
from trainer.course import Place
from trainer.devices import Processes
from trainer.saving import Saving
from trainer.together import Together
from trainer.watch import Journal

ROOT = Path(__file__).resolve().parents[2]


def python(program, **streams):
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, **streams)


@pytest.fixture
def unread():
    """The end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def test_a_stop_is_noted_told_and_ends_with_its_code_where_nobody_reads_what_is_said(unread):
    program = """if True:
    import os, signal, sys
    from schemas.errors import StoppedByHand
    from stretto import report
    from trainer.telling import tell
    from trainer.stopping import Stop
    if sys.argv[1:] == ["says"]:
        tell("before")
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        tell("between")
    assert stop.by_hand
    sys.exit(report(StoppedByHand("saved"), verbose=False))
    """
    assert python(program, stderr=unread).returncode == 130
    assert python(program.replace("sys.argv[1:] ==", "True or"), stderr=unread).returncode == 130
    said = python(program, stderr=subprocess.PIPE)
    assert said.returncode == 130 and [line.split()[0] for line in said.stderr.splitlines()] == [
        b"stretto:", b"between", b"stretto:",
    ]  # fmt: skip


def test_what_nobody_reads_is_still_in_the_log_and_other_errors_have_their_code(unread, tmp_path):
    program = f"""if True:
    import sys
    from types import SimpleNamespace
    from schemas.errors import Interrupted
    from stretto import report
    from trainer.course import Place
    from trainer.watch import Watch
    course = SimpleNamespace(reports={str(tmp_path)!r}, began=0.0, processes=SimpleNamespace(is_chief=True))
    watch = Watch(course, Place(3, 12), None)
    watch.say("one")
    watch.say("two \\udcff\\x1b[31m")
    sys.exit(report(Interrupted("saved"), verbose=True))
    """
    assert python(program, stderr=unread).returncode == 75
    said = [json.loads(line)["sentence"] for line in (tmp_path / "logs" / "train.jsonl").read_text().splitlines()]
    assert said == ["one", "two \\udcff\\x1b[31m"]


def test_a_line_with_bytes_that_are_no_text_is_written_and_read_again(tmp_path):
    path = str(tmp_path / "log")
    Journal(path, 0).write(0, "said", {"sentence": "\udcff"})
    assert [line["sentence"] for line in Journal(path, 0).lines("said")] == ["?"]
    assert Journal(path, 0).damaged == 0


def test_a_change_of_settings_stays_told_when_a_run_falls_back_behind_it(tmp_path):
    path = str(tmp_path / "metrics.jsonl")
    journal = Journal(path, 12)
    journal.write(6, "train", {"loss": 1.0})
    journal.write(12, "change", {"train.batch": [4, 8]})
    journal.write(12, "train", {"loss": 1.0})
    found = [json.loads(line) for line in Path(Journal(path, 6).path).read_text().splitlines()]
    assert [(line["step"], line["kind"]) for line in found] == [(6, "train"), (12, "change")]


# === The loop, without a model ===


class Asked:
    requested = by_hand = False


@contextmanager
def batches(course, place):
    yield iter(range(1000))


@pytest.fixture
def made(monkeypatch, tmp_path):
    """A course of 6 steps with a checkpoint at each third one, and what is saved, reported and shown of it."""
    done = SimpleNamespace(saved=[], reported=0, room=True)

    class Told:
        def __init__(self, course, place, summaries):
            self.place = place

        def report(self):
            if not done.room:
                raise MachineError("no room for another line")
            done.reported = self.place.step

        def waiting(self, *ignored):
            return batches(None, None)

        def check(self, *ignored):
            pass

        look_at = record = report_scores = check
        stepping = spending = waiting
        say = started = report_spent = check

    def advance(course, place, batch, rate, stop):
        place.step, place.position = place.step + 1, place.position + 4

    def save(course, saving, place, score):
        if place.step not in dict(done.saved):
            done.saved.append((place.step, score))

    for name, value in {"Watch": Told, "advance": advance, "save": save, "stream": batches}.items():
        monkeypatch.setattr(loop, name, value)
    monkeypatch.setattr(loop, "begin", lambda *ignored: None)
    settings = SimpleNamespace(
        steps=6, batch=4, seed=0, checkpoint_every=3, log_every=1, sample_every=0, schedule="constant", warmup=0,
        learning_rate=1.0, evaluate_examples=0,
    )  # fmt: skip
    done.course = SimpleNamespace(
        run=SimpleNamespace(settings=settings), folder=str(tmp_path), reports=str(tmp_path), config={}, profile=(0, 0),
        processes=Processes(),
    )  # fmt: skip
    return done


def stopped_while_scoring(monkeypatch, made, at):
    stop = Asked()

    def evaluate(step, stop):
        stop.requested = stop.requested or step == at
        return {} if stop.requested else {"loss": 2.0}

    monkeypatch.setattr(loop, "make_evaluate", lambda course: evaluate)
    with pytest.raises(Interrupted, match=f"stopped at step {at} of 6, the state is saved") as caught:
        loop.run(made.course, Saving(None), Place(), [], stop)
    assert caught.value.exit_code == 75


@pytest.mark.parametrize(("at", "saved"), [(3, [(3, None)]), (6, [(3, 2.0), (6, None)])])
def test_a_stop_while_validation_is_scored_saves_at_once_and_finishes_nothing(monkeypatch, made, at, saved):
    stopped_while_scoring(monkeypatch, made, at)
    assert made.saved == saved


def test_a_disk_without_room_for_another_line_costs_no_state_that_is_to_be_saved(monkeypatch, made):
    monkeypatch.setattr(loop, "make_evaluate", lambda course: None)
    stop, made.room = Asked(), False
    stop.requested = True
    with pytest.raises(MachineError, match="no room for another line"):
        loop.run(made.course, Saving(None), Place(2, 8), [], stop)
    assert made.saved == [(2, None)]


def test_scoring_gives_up_between_two_batches():
    read, asked = [], Asked()

    def in_order(batch, limit, rows):
        for number in range(5):
            read.append(number)
            asked.requested = number == 2
            yield {}

    devices = SimpleNamespace(compile_sums=lambda model, function: function, batch=lambda rows: rows)
    course = SimpleNamespace(
        update=SimpleNamespace(model=None, scores=lambda batch: {"loss": (1.0, 2.0)}, devices=devices),
        run=SimpleNamespace(settings=SimpleNamespace(batch=4, evaluate_examples=0)),
        validation=SimpleNamespace(in_order=in_order),
        processes=Processes(),
    )
    assert loop.make_evaluate(course)(3, Together(asked, Processes())) == {} and read == [0, 1, 2]


# === Several processes at the end ===


def course_of(count, number, others):
    """A course of so many processes; of a batch of 4 the rows of the others say `others`."""
    share = 4 // count

    def compile_sums(model, function):
        return lambda rows: {"yes": float(rows["yes"].sum()) + others * share * (count - 1)}

    devices = SimpleNamespace(compile_sums=compile_sums, batch=lambda rows: rows)
    return SimpleNamespace(
        folder="run",
        processes=Processes(count, number),
        run=SimpleNamespace(settings=SimpleNamespace(batch=4)),
        update=SimpleNamespace(model=None, devices=devices),
    )


class Writing:
    def __init__(self, error=None):
        self.error = error

    def wait(self):
        if self.error:
            raise self.error


def test_no_process_ends_where_the_first_one_could_not_write_the_last_checkpoint():
    loop.settle(course_of(2, 1, others=1), Writing())
    with pytest.raises(MachineError, match="run: process 0 could not write the last checkpoint"):
        loop.settle(course_of(2, 1, others=0), Writing())
    with pytest.raises(MachineError, match="disk is full"):
        loop.settle(course_of(2, 0, others=1), Writing(MachineError("disk is full")))
    with pytest.raises(MachineError, match="disk is full"):
        loop.settle(course_of(1, 0, others=0), Writing(MachineError("disk is full")))


def test_a_process_that_is_lost_while_training_begins_has_all_started_again(monkeypatch):
    job = SimpleNamespace(output="run", processes=Processes(2, 1))
    monkeypatch.setitem(sys.modules, "keras", sys)
    monkeypatch.setattr(train, "current", lambda: SimpleNamespace(is_lost_peer=lambda error: "peer" in str(error)))

    def fails(error):
        def run_loop(job, changes):
            raise error

        monkeypatch.setattr(train, "run_loop", run_loop)
        with pytest.raises(Exception) as caught:
            train.in_company(job, {})
        return caught.value

    lost = fails(RuntimeError("reset by peer"))
    assert isinstance(lost, Interrupted) and lost.at_once and "was lost while training began" in str(lost)
    for error in (RuntimeError("no algorithm"), MachineError("reset by peer")):
        assert fails(error) is error and error.at_once
    job.processes = Processes()
    alone = RuntimeError("reset by peer")
    assert fails(alone) is alone and not alone.at_once


def test_only_the_first_process_copies_what_is_saved():
    saved = []
    saving = SimpleNamespace(wait=lambda: saved.append("waited"))
    course.save(SimpleNamespace(processes=Processes(2, 1)), saving, Place(4, 16), None)
    assert saved == ["waited"]


# === A device that is too small ===


@pytest.mark.parametrize(
    ("settings", "saved", "remedy"),
    [
        ({}, [], "--accumulate 2 or --remat or --precision mixed_bfloat16 or a smaller --batch"),
        ({"accumulate": 4, "remat": True}, [], "--precision mixed_bfloat16 or a smaller --batch"),
        ({"precision": "mixed_bfloat16"}, [20], "--accumulate 2 or --remat or a smaller --batch"),
        ({}, [20], "--accumulate 2 or --remat or a smaller --batch"),
    ],
)
def test_a_device_without_room_is_told_with_what_needs_less_and_may_be_changed(settings, saved, remedy):
    run = SimpleNamespace(settings=TrainSettings(batch=4, **settings), task=SimpleNamespace(in_blocks=True))
    full = SimpleNamespace(folder="run", run=run)
    error = loop.no_room(full, SimpleNamespace(steps=lambda: saved), RuntimeError("RESOURCE_EXHAUSTED: 9 GB\nmore"))
    assert error.exit_code == 4
    assert str(error).endswith(f"Type the same command with {remedy}. (RESOURCE_EXHAUSTED: 9 GB)")


# === Going back, where it diverged ===


@pytest.mark.parametrize(("position", "remade"), [(16, True), (12, False)])
def test_steps_are_made_again_only_where_they_are_those_that_were_made(monkeypatch, position, remade):
    """The state of step 4 is wanted, and step 2 with 8 examples is saved; 8 more were taken between, or only 4."""
    saved = []
    monkeypatch.setattr(divergence, "restore", lambda course, checkpoints, limit: (Place(2, 8), ["going on"]))
    monkeypatch.setattr(divergence, "stream", batches)
    monkeypatch.setattr(divergence, "advance", loop_free_advance)
    monkeypatch.setattr(divergence, "schedule_of", lambda settings: lambda step: 1.0)
    monkeypatch.setattr(divergence, "save", lambda course, saving, place, score: saved.append(place.position))
    checkpoints = SimpleNamespace(newest=lambda limit: (4 if saved else 2, []), path=lambda step: f"run/{step}")
    saving = Saving(checkpoints)
    course = SimpleNamespace(run=SimpleNamespace(settings=SimpleNamespace(batch=4)))
    step, phrase = divergence.state_before(course, saving, Place(4, position), Asked())
    if remade:
        assert (step, phrase, saved) == (4, "run/4", [16])
    else:
        assert step == 2 and saved == [] and phrase.startswith("run/2; that of step 4 could not be saved (the batch")


def loop_free_advance(course, place, batch, rate, stop):
    place.step, place.position = place.step + 1, place.position + 4


@pytest.mark.parametrize(("by_hand", "kind"), [(False, Interrupted), (True, StoppedByHand)])
def test_a_process_alone_that_is_stopped_while_it_begins_makes_no_step_and_saves_nothing(by_hand, kind):
    asked = SimpleNamespace(requested=True, by_hand=by_hand)
    with pytest.raises(kind, match="^run: stopped .*before it made a step: run the same command again"):
        train.give_up_early(SimpleNamespace(output="run", processes=Processes()), asked)
    train.give_up_early(SimpleNamespace(output="run", processes=Processes(2, 0)), asked)  # all of them stop, or none
    train.give_up_early(SimpleNamespace(output="run", processes=Processes()), SimpleNamespace(requested=False))


# === The command itself ===


@pytest.mark.slow
def test_a_training_that_is_stopped_while_it_begins_ends_at_once_and_can_be_begun_again(tmp_path):
    scales(str(tmp_path / "data"), window=32)
    words = command(tmp_path / "data", tmp_path / "run", steps=2, every=2)
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "config.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 75 and "before it made a step" in said
    assert Checkpoints(str(tmp_path / "run")).steps() == []
    again = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_training_whose_reader_is_gone_goes_on_and_is_stopped_with_its_state_saved(tmp_path, number, code):
    scales(str(tmp_path / "data"), window=32)
    words = command(tmp_path / "data", tmp_path / "run", "--log-every", "1", steps=100_000, every=100_000)
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while b"tokens/s" not in process.stderr.readline():
        assert process.poll() is None
    process.stderr.close()
    seen = (tmp_path / "run" / "logs" / "train.jsonl").read_bytes()
    while (tmp_path / "run" / "logs" / "train.jsonl").read_bytes() == seen:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == code
    step, skipped = Checkpoints(str(tmp_path / "run")).newest()
    assert step > 0 and skipped == []
