"""Attacks training with a disk that is too small, at many sizes, then gives it room and goes on.

`python full_disk_runs.py BACKEND DATA FOLDER` trains 8 steps with a checkpoint at each second one on file systems of
their own (tmpfs; mounting must be permitted). Prints a line of JSON for each size: how the run ended, which
checkpoints were there and whole, and whether it ended, once there was room, with the bits of an undisturbed run.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.hostile.one_course import make, state, train  # noqa: E402

STEP_KILOBYTES = 40


def attack(course, folder, kilobytes, wanted):
    """One size."""
    from trainer.checkpoint import Checkpoints

    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder], check=True)
    try:
        run = Path(folder) / "run"
        error, said = train(course, run)
        checkpoints = Checkpoints(str(run))
        steps = checkpoints.steps()
        told = {
            "kilobytes": kilobytes,
            "kind": type(error).__name__,
            "message": str(error),
            "said": said,
            "steps": steps,
            "faults": [checkpoints.fault(step) for step in steps],
        }
        subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
        again, said = train(course, run)
        return {**told, "again": str(again), "then": said, "equal": again is None and state(course) == wanted}
    finally:
        subprocess.run(["umount", folder], check=True)


def main(backend, data, folder):
    course = make(backend, data, steps=8, checkpoint_every=2, log_every=1, keep=2)
    sound, small = Path(folder) / "undisturbed", str(Path(folder) / "small")
    assert train(course, sound)[0] is None
    wanted = state(course)
    os.makedirs(small)
    kilobytes = STEP_KILOBYTES
    while True:
        told = attack(course, small, kilobytes, wanted)
        print(json.dumps(told), flush=True)
        if told["kind"] == "NoneType":
            return
        kilobytes += STEP_KILOBYTES


if __name__ == "__main__":
    main(*sys.argv[1:])
