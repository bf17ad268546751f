"""Attacks training with a learning rate that explodes in one step, at several places between two checkpoints.

`python diverging_runs.py BACKEND DATA FOLDER` trains with an absurd learning rate from a chosen step on, and prints a
line of JSON for each: the error and what the run left, the examples that were really in the batch of the bad step, and
whether the checkpoint before it holds, bit for bit, what a run with a checkpoint at every step has there, or fresh
weights where it is the very first.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.hostile.one_course import changed, make, saved, state, train  # noqa: E402

STEPS, EVERY = 20, 6


def explode_from(step):
    """Makes the learning rate absurd from a step on (0 is the first)."""
    from trainer import divergence, loop

    for module in (loop, divergence):
        module.schedule_of = lambda settings: lambda number: 1e-3 if number < step else 1e15


def first_bad_step(folder):
    """The step that a run which reports every step ended at."""
    return json.loads((folder / "diverged.json").read_text())["step"]


def keys_of(course, step):
    """Keys of the examples of a step, taken from the stream of batches itself."""
    course.train.names = (*course.train.names, "key")
    batches = course.train.shuffled(course.run.settings.seed, 0, course.run.settings.batch)
    for _ in range(step):
        batch = next(batches)
    course.train.names = course.train.names[:-1]
    return [key.decode() for key in batch["key"]]


def attack(course, explosion, folder):
    """One explosion: a run that looks at every step and saves at every step, and one that does both rarely."""
    from trainer.checkpoint import Checkpoints
    from trainer.course import begin_weights

    begin_weights(course)
    fresh = state(course)
    explode_from(explosion)
    careful, normal = folder / f"careful-{explosion}", folder / f"normal-{explosion}"
    train(changed(course, checkpoint_every=1, log_every=1, keep=STEPS), careful)
    error, said = train(course, normal)
    bad = first_bad_step(careful)
    checkpoints = Checkpoints(str(normal))
    newest, skipped = checkpoints.newest()
    equal = saved(course, normal, newest) == (fresh if bad == 1 else saved(course, careful, newest))
    again, _ = train(course, normal)
    lines = (normal / "metrics.jsonl").read_text().splitlines()
    return {
        "bad": bad,
        "code": getattr(error, "exit_code", 0),
        "message": str(error),
        "again": str(again),
        "said": said,
        "left": json.loads((normal / "diverged.json").read_text()),
        "keys": keys_of(course, bad),
        "newest": newest,
        "skipped": skipped,
        "equal": equal,
        "steps": checkpoints.steps(),
        "best": checkpoints.best(),
        "scores": [checkpoints.state(step).score for step in checkpoints.steps()],
        "last_line": json.loads(lines[-1])["step"] if lines else 0,
    }


def attack_changed_batch(course, folder):
    """A run whose batch was another one up to step 4; the checkpoint there is damaged once the run has gone on."""
    from trainer import loop
    from trainer.checkpoint import Checkpoints

    explode_from(STEPS)
    train(changed(course, steps=4, checkpoint_every=2), folder)
    explode_from(8)
    begin = loop.begin

    def hurt(*arguments):
        begin(*arguments)
        (folder / "checkpoints" / "4" / "state.json").write_text("x")

    loop.begin = hurt
    error, _ = train(changed(course, batch=2, checkpoint_every=50), folder)
    loop.begin = begin
    return {"message": str(error), "newest": Checkpoints(str(folder)).newest()[0]}


class Poisoned:
    """An objective whose loss is no number where it is not trained on."""

    def __init__(self, objective):
        self.objective, self.name, self.repeat = objective, objective.name, objective.repeat
        self.variables, self.active = objective.variables, objective.active

    def loss(self, model, batch, context):
        total, weight, extras = self.objective.loss(model, batch, context)
        return total if context.training else total * float("nan"), weight, extras


def attack_validation(course, folder):
    """A validation loss that is no number, at the first checkpoint."""
    from trainer.checkpoint import Checkpoints

    explode_from(STEPS)
    course.update.objectives[0] = Poisoned(course.update.objectives[0])
    error, _ = train(course, folder)
    checkpoints = Checkpoints(str(folder))
    left = json.loads((folder / "diverged.json").read_text())
    return {"message": str(error), "left": left, "newest": checkpoints.newest(), "best": checkpoints.best()}


def main(backend, data, folder):
    settings = {"steps": STEPS, "checkpoint_every": EVERY, "log_every": 4, "schedule": "constant"}
    course = make(backend, data, **settings)
    for explosion in (0, 1, 5, 6, 13):
        print(json.dumps(attack(course, explosion, Path(folder))), flush=True)
    print(json.dumps(attack_changed_batch(course, Path(folder) / "batch")), flush=True)
    course = make(backend, data, validation=True, **settings)
    print(json.dumps(attack_validation(course, Path(folder) / "validation")), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
