"""Likelihood of what was sampled, folder by folder: a table, and one picture of the course over the sweeps.

    python examples/sweeps.py music/annealed music/gibbs --output sweeps.png

Each folder is one that `stretto sample` wrote for a run on cells. The curve of a folder is the mean over its samples of
what the cells of each sweep cost when they were drawn; the table has the cost of the finished cells, each given those
before it in one random order. Both are the model's opinion of its own music, not of its quality.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from media.plot import curve_png  # noqa: E402


def read(folder: Path) -> dict[str, Any]:
    """What samples.json of a folder says of its samples' likelihood."""
    made = json.loads((folder / "samples.json").read_text())
    courses = [[np.nan if value is None else value for value in row["gibbs_nats"]] for row in made["samples"]]
    return {
        "name": folder.name,
        "sampler": made["sampler"]["sampler"],
        "course": np.nanmean(np.array(courses, np.float64), axis=0).tolist(),
        "nats": [row["nats_per_cell"] for row in made["samples"]],
    }


def line(found: dict[str, Any]) -> str:
    """A row of the table."""
    nats = np.array(found["nats"])
    error = nats.std(ddof=1) / len(nats) ** 0.5 if len(nats) > 1 else float("nan")
    course = f"{found['course'][0]:.3f} -> {np.mean(found['course'][-10:]):.3f}"
    return f"| {found['name']} | {found['sampler']} | {len(nats)} | {nats.mean():.3f} +- {error:.3f} | {course} |"


def main() -> int:
    """Prints the table and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    asked = parser.parse_args()
    found = [read(folder) for folder in asked.folders]
    print("| folder | sampler | samples | nats per filled cell | per drawn cell, first sweep -> last ten |")
    print("| --- | --- | --- | --- | --- |")
    for one in found:
        print(line(one))
    series = {one["name"]: one["course"] for one in found}
    asked.output.write_bytes(curve_png(series, "likelihood over the sweeps", "sweep", "nats per drawn cell"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
