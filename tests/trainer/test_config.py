"""Settings of a run, the named runs, and the schedule."""

import json
import subprocess
import sys
from dataclasses import fields, replace

import pytest

from schemas.errors import UsageError
from trainer.config import Run, TrainSettings, differences, refused, run_from_json, run_to_json
from trainer.models import FAMILIES
from trainer.models.music_transformer import MusicTransformer
from trainer.run_folder import with_defaults
from trainer.runs import RUNS
from trainer.schedule import constant, cosine, rsqrt, schedule_of


def test_settings_and_every_family_are_imported_without_a_framework():
    modules = ["trainer.runs", "trainer.train", *(name.partition(":")[0] for name in FAMILIES.values())]
    code = f"import sys, {', '.join(modules)}; print({{'keras', 'jax', 'tensorflow', 'orbax'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("name", RUNS)
def test_a_named_run_says_what_it_gives_and_how_it_is_started(name):
    run = RUNS[name]
    assert run.name == name and run.family in FAMILIES
    assert f"stretto train {name}" in run.command and len(run.expected) > 40


@pytest.mark.parametrize("name", RUNS)
def test_a_run_survives_being_stored_as_json(name):
    run = RUNS[name]
    again = run_from_json(json.loads(json.dumps(run_to_json(run))))
    assert again.task == run.task and again.settings == run.settings


def test_no_setting_of_training_hides_one_of_a_family():
    training = {item.name for item in fields(TrainSettings)}
    for run in RUNS.values():
        assert not training & {item.name for item in fields(run.task)}


def test_the_runs_of_the_paper_have_its_settings():
    task, settings = RUNS["music-transformer"].task, RUNS["music-transformer"].settings
    assert (task.layers, task.hidden, task.attention, task.feed_forward, task.heads) == (6, 256, 256, 2048, 8)
    assert (task.max_distance, task.dropout, task.positions) == (1024, 0.1, "relative")
    assert (settings.beta1, settings.beta2, settings.epsilon, settings.warmup) == (0.9, 0.98, 1e-9, 4000)
    changed = replace(task, positions="sinusoidal", attention=512)
    assert RUNS["transformer"].task == changed and RUNS["transformer"].settings == settings


@pytest.mark.parametrize(
    "size, layers, width, heads", [("tiny", 3, 128, 4), ("base", 12, 768, 12), ("large", 28, 1024, 16)]
)
def test_the_rotary_run_has_sizes(size, layers, width, heads):
    task = RUNS["music-transformer-rotary"].sized(size).task
    assert (task.layers, task.hidden, task.heads, task.feed_forward) == (layers, width, heads, 4 * width)


def test_a_run_of_one_size_refuses_another():
    with pytest.raises(UsageError, match="one size only"):
        RUNS["transformer"].sized("small")
    with pytest.raises(UsageError, match="Did you mean 'small'"):
        RUNS["music-transformer-rotary"].sized("smal")


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(UsageError, match="--accumulate 3 does not divide --batch 8"):
        TrainSettings(batch=8, accumulate=3)
    with pytest.raises(UsageError, match="--log-every 0: must be 1 or more"):
        TrainSettings(log_every=0)


def changes(**settings):
    run = Run("one", "music-transformer", MusicTransformer(), TrainSettings(steps=100))
    task = {name: settings.pop(name) for name in list(settings) if hasattr(run.task, name)}
    other = replace(run, task=replace(run.task, **task), settings=replace(run.settings, **settings))
    return differences(run_to_json(run), run_to_json(other))


def test_a_run_may_grow_and_change_its_batch():
    found = changes(steps=200, batch=16, checkpoint_every=7, sample_every=3)
    assert found["train.steps"] == (100, 200) and found["train.batch"] == (8, 16)
    assert refused(found) == []


@pytest.mark.parametrize(
    "settings, name",
    [
        ({"steps": 50}, "train.steps"),
        ({"backend": "jax"}, "train.backend"),
        ({"precision": "mixed_bfloat16"}, "train.precision"),
        ({"seed": 1}, "train.seed"),
        ({"layers": 2}, "model.layers"),
    ],
)
def test_a_run_may_not_become_another(settings, name):
    assert refused(changes(**settings)) == [name]


@pytest.mark.parametrize("name", ["learning_rate", "epsilon", "clip", "weight_decay", "beta1", "beta2"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1])
def test_what_is_no_number_to_train_with_is_refused(name, value):
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}"):
        TrainSettings(**{name: value})


def test_the_schedule_of_the_paper_rises_and_falls_as_the_paper_says():
    width, warmup, peak = 256, 4000, (256 * 4000) ** -0.5
    for n in (1, 100, 4000, 4001, 50_000):
        paper = width**-0.5 * min(n**-0.5, n * warmup**-1.5)
        assert rsqrt(n - 1, peak, warmup) == pytest.approx(paper, rel=1e-12)
    assert peak == pytest.approx(9.88e-4, rel=1e-3)


def test_a_cosine_ends_at_zero_and_is_at_half_in_the_middle():
    assert cosine(9, 2.0, 10, 110) == cosine(10, 2.0, 10, 110) == 2.0
    assert cosine(60, 2.0, 10, 110) == pytest.approx(1.0)
    assert cosine(110, 2.0, 10, 110) == pytest.approx(0.0)
    assert [constant(step, 2.0, 4) for step in (0, 3, 99)] == [0.5, 2.0, 2.0]


@pytest.mark.parametrize("name", ["rsqrt", "cosine", "constant"])
def test_every_schedule_reaches_its_peak_once_it_is_warm(name):
    schedule = schedule_of(TrainSettings(steps=100, warmup=10, learning_rate=0.5, schedule=name))
    assert schedule(9) == pytest.approx(0.5) == max(schedule(step) for step in range(100))


def test_a_run_that_is_older_than_a_setting_goes_on_with_what_stood_for_it():
    now = run_to_json(RUNS["tiny-chorales"])
    older = {**now, "model": {name: value for name, value in now["model"].items() if name not in ("voices", "metre")}}
    assert differences(older, now).keys() == {"model.voices", "model.metre"}
    assert not differences(with_defaults(older), now)
