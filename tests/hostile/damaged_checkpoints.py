"""Attacks the newest checkpoint of a run: halves, empties, deletes and flips each of its files, and trains on.

`python damaged_checkpoints.py BACKEND DATA FOLDER` trains 8 steps with checkpoints at 4 and 8, undisturbed; then, for
every file of checkpoint 8 and every damage, goes on with a copy. Prints a line of JSON for each: what was said, and
whether the weights, random seeds and optimiser at step 8 are those of the undisturbed run, bit for bit.
"""

import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.hostile.damages import DAMAGES  # noqa: E402
from tests.hostile.one_course import make, saved, state, train  # noqa: E402


def main(backend, data, folder):
    from trainer.checkpoint import Checkpoints

    course = make(backend, data, steps=8, checkpoint_every=4, log_every=4)
    sound = Path(folder) / "undisturbed"
    assert train(course, sound)[0] is None
    wanted = state(course)
    newest = sound / "checkpoints" / "8"
    for name in sorted(path.relative_to(newest) for path in newest.rglob("*") if path.is_file()):
        for damage in DAMAGES:
            run = shutil.copytree(sound, Path(folder) / "run")
            damage(run / "checkpoints" / "8" / name)
            error, said = train(course, run)
            equal = error is None and state(course) == wanted == saved(course, run, 8)
            told = {"file": str(name), "damage": damage.__name__, "run": str(run), "said": said, "equal": equal}
            print(json.dumps({**told, "steps": Checkpoints(str(run)).steps()}), flush=True)
            shutil.rmtree(run)


if __name__ == "__main__":
    main(*sys.argv[1:])
