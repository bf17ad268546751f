"""Attacks whoever loads a run from elsewhere: pickles in every place, names to be imported, links, wrong arrays.

`python strangers_runs.py BACKEND FOLDER` makes a sound run, and for each attack a copy of it whose checksums are right
again; loads the copy, and prints a line of JSON: what was raised, and whether a pickle was loaded or a module of the
attacker's imported. The last line is of a pickle that is really loaded, to show that the watch would see one.
"""

import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.hostile.one_course import make  # noqa: E402

STEP = 5
SEEN = []
ARRAYS = []


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def watch(event, arguments):
    if event == "pickle.find_class" or (event == "import" and str(arguments[0]).startswith("attackers_module")):
        SEEN.append(f"{event} {arguments[0]}")


# === The attacks: each changes a copy of the run; `checkpoint` is the folder of its only one ===


def pickle_at(place):
    def attack(run, checkpoint):
        path = next(iter(sorted(checkpoint.glob(place)) or sorted(run.glob(place))))
        path.write_bytes(pickle.dumps(Payload(run.parent / "marker")))

    return attack


def config(**changes):
    """Other values in config.json; those that are dicts are merged."""

    def attack(run, checkpoint):
        values = json.loads((run / "config.json").read_text())
        for key, value in changes.items():
            values[key] = {**values[key], **value} if isinstance(value, dict) else value
        (run / "config.json").write_text(json.dumps(values))

    return attack


def text_at(name, text):
    def attack(run, checkpoint):
        ((run if name == "config.json" else checkpoint) / name).write_text(text)

    return attack


def state(**changes):
    def attack(run, checkpoint):
        values = json.loads((checkpoint / "state.json").read_text())
        (checkpoint / "state.json").write_text(json.dumps({**values, **changes}))

    return attack


def handler(name):
    """What Orbax calls a handler: the name of a class."""

    def attack(run, checkpoint):
        path = checkpoint / "_CHECKPOINT_METADATA"
        path.write_text(json.dumps({**json.loads(path.read_text()), "item_handlers": {"weights": name}}))

    return attack


def arrays(change):
    """Other weights than the network has, saved in order."""

    def attack(run, checkpoint):
        from trainer.arrays import write_arrays

        shutil.rmtree(checkpoint / "weights")
        write_arrays(str(run / "other"), {"weights": change([np.asarray(item) for item in ARRAYS])})
        shutil.move(run / "other" / "weights", checkpoint / "weights")
        shutil.rmtree(run / "other")

    return attack


def larger_pieces(run, checkpoint):
    """An array of the right shape, stored in pieces that would need terabytes of memory."""
    import tensorstore

    shape = list(np.asarray(ARRAYS[0]).shape)
    store = {"driver": "ocdbt", "base": f"file://{checkpoint}/weights/", "path": "0/"}
    metadata = {"chunks": [1 << 14] * len(shape), "dtype": "<f4", "shape": shape}
    spec = {"driver": "zarr", "kvstore": store, "metadata": metadata}
    tensorstore.open(spec, create=True, delete_existing=True).result()


def link(name):
    def attack(run, checkpoint):
        path = checkpoint / name
        shutil.move(path, run / "elsewhere")
        path.symlink_to(run / "elsewhere")

    return attack


def link_to_checkpoint(run, checkpoint):
    shutil.move(checkpoint, run / "elsewhere")
    checkpoint.symlink_to(run / "elsewhere")


def pipe(run, checkpoint):
    os.mkfifo(checkpoint / "pipe")


DEEP = "[" * 100_000 + "]" * 100_000

ATTACKS = {
    "pickle as config.json": pickle_at("config.json"),
    "pickle as state.json": pickle_at("state.json"),
    "pickle as metadata": pickle_at("weights/_METADATA"),
    "pickle as metadata of the whole": pickle_at("_CHECKPOINT_METADATA"),
    "pickle as manifest of the weights": pickle_at("weights/manifest.ocdbt"),
    "pickle as data of the weights": pickle_at("weights/d/*"),
    "family by module": config(family="attackers_module:Family"),
    "family that is a list": config(family=["music-transformer"]),
    "backend by module": config(train={"backend": "attackers_module.step"}),
    "precision by name": config(train={"precision": "attackers_module"}),
    "unknown setting": config(model={"custom_objects": "attackers_module"}),
    "setting of another type": config(model={"layers": "3"}),
    "representation by module": config(data={"representation": "attackers_module:Events"}),
    "features that are none": config(data={"features": {"tokens": {"dtype": "object"}}}),
    "no tokens": config(data={"features": {}}),
    "config that is a list": text_at("config.json", "[]"),
    "deep config": text_at("config.json", DEEP),
    "huge config": text_at("config.json", '{"name": "' + "x" * (8 << 20) + '"}'),
    "deep state": text_at("state.json", DEEP),
    "deep metadata": text_at("weights/_METADATA", DEEP),
    "metadata that is a list": text_at("weights/_METADATA", "[]"),
    "state of another step": state(step=7),
    "huge position": state(position=10**50),
    "score that is no number": state(score="lowest"),
    "logs that are a text": state(logs="attackers_module"),
    "unknown key in state": state(handler="attackers_module"),
    "handler by module": handler("attackers_module.Handler"),
    "another shape": arrays(lambda items: [items[0][:-1], *items[1:]]),
    "another type": arrays(lambda items: [items[0].astype(np.float64), *items[1:]]),
    "one array less": arrays(lambda items: items[:-1]),
    "pieces of terabytes": larger_pieces,
    "file that is a link": link("state.json"),
    "folder that is a link": link("weights"),
    "checkpoint that is a link": link_to_checkpoint,
    "pipe": pipe,
}
SEALED_NO_MORE = ("file that is a link", "folder that is a link", "checkpoint that is a link", "pipe")


def sound_run(backend, root):
    """A run whose network is as it begins. Its weights go to ARRAYS."""
    from tests.trainer.synthetic import scales

    scales(f"{root}/data", window=16)
    course = make(backend, f"{root}/data")  # chooses the backend before anything imports Keras
    from trainer.backends import current
    from trainer.checkpoint import Checkpoints
    from trainer.course import parts
    from trainer.saved import Saved

    weights, optimiser = (current().values(items) for items in parts(course.update))
    ARRAYS[:] = weights
    os.mkdir(f"{root}/sound")
    Path(f"{root}/sound/config.json").write_text(json.dumps(course.config))
    Checkpoints(f"{root}/sound").save(Saved(STEP, 20, "data", "configuration", 1.0, {}), weights, optimiser)


def outcome(root, name, attack):
    """What loading the attacked run does."""
    from schemas.errors import StrettoError
    from trainer.loaded import load_run
    from trainer.saved import write_list

    run = Path(shutil.copytree(f"{root}/sound", f"{root}/run"))
    checkpoint = run / "checkpoints" / str(STEP)
    if attack:
        attack(run, checkpoint)
    if name not in SEALED_NO_MORE:
        write_list(str(checkpoint))
    SEEN.clear()
    try:
        load_run(str(run), "last")
        raised, message = "", ""
    except StrettoError as error:
        raised, message = type(error).__name__, str(error)
    told = {"attack": name, "raised": raised, "message": message, "seen": list(SEEN)}
    shutil.rmtree(run)
    return {**told, "marker": Path(root, "marker").exists()}


def main(backend, root):
    sys.addaudithook(watch)
    Path(root, "attackers_module.py").write_text(f"import os\nos.mkdir({str(Path(root, 'marker'))!r})\n")
    sys.path.insert(0, root)
    sound_run(backend, root)
    for name, attack in {"none": None, **ATTACKS}.items():
        print(json.dumps(outcome(root, name, attack)), flush=True)
    SEEN.clear()
    pickle.loads(pickle.dumps(Payload(Path(root, "marker"))))
    print(json.dumps({"attack": "control", "seen": SEEN, "marker": Path(root, "marker").exists()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
