"""Whether a dataset fits what is to be trained on it; where it does not, the command that makes one that does."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from schemas.errors import UsageError
from schemas.manifest import Manifest
from schemas.registry import resolve
from schemas.representations import REPRESENTATIONS, from_settings
from schemas.settings import as_flags, to_json
from trainer.config import Run
from trainer.redraw import features_seen
from trainer.task import Difference


def check_needs(run: Run, manifest: Manifest, data: str) -> None:
    """Raises UsageError with both sides, and the command that would make the right dataset, unless the data fit."""
    found = run.task.needs(replace(manifest, features=features_seen(run.settings, manifest)))
    if not manifest.records("train"):
        found = [*found, Difference("split train", "records", "none", "--splits train=0.8,validation=0.1,test=0.1")]
    if found:
        sides = "; ".join(
            f"{item.what}: {run.name} needs {item.needed}, the dataset has {item.found}" for item in found
        )
        remedies = " ".join(item.remedy for item in found if item.remedy)
        cut = " (or train on parts of whole pieces: --redraw-crop N)" if "window" in [i.what for i in found] else ""
        others = f"what else it was made with is in {os.path.join(data, 'config.json')}"
        remedy = f" Make one that does ({others}): {preparing(manifest, remedies)}{cut}" if remedies else ""
        raise UsageError(f"{data} does not fit: {sides}.{remedy}")


def preparing(manifest: Manifest, remedies: str) -> str:
    """The command that makes a dataset like this one but for some flags of `stretto prepare`.

    Settings of its representation are kept, unless the flags name another representation.
    """
    changed = dict(re.findall(r"--(?:no-)?([a-z-]+)(?:[ =](?!--)([^ ]+))?", remedies))
    own, flags = manifest.representation, []
    if own in REPRESENTATIONS and changed.get("representation", own) == own:
        kept = {name: value for name, value in _unusual(manifest).items() if name.replace("_", "-") not in changed}
        named = [] if "representation" in changed else [f"--representation={own}"]
        flags = [*named, *as_flags(resolve(REPRESENTATIONS, own, "representation"), kept)]
    words = ["stretto", "prepare", manifest.corpus, "--input", "PATH", "--output", "DIR", *flags]
    return f"{shlex.join(words)} {remedies}"


def _unusual(manifest: Manifest) -> Mapping[str, Any]:
    """The settings of a dataset's representation that are not what they are when nobody says anything."""
    usual = to_json(from_settings(manifest.representation, {}))
    found = to_json(from_settings(manifest.representation, manifest.settings))
    return {name: value for name, value in found.items() if value != usual[name]}
