"""What a profile of training steps says: the operations that took the most time of the device, and their share.

    python benchmarks/profile_costs.py FOLDER      # of a run, or of what `stretto train --profile` wrote in it

Reads the newest `*.trace.json.gz` below the folder. An operation counts with its own time, without what runs inside it;
numbers at the end of names are left out, so that the same operation of every layer is one.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Event = Mapping[str, Any]


def newest_trace(folder: str) -> Path:
    """The newest profile below a folder. Raises FileNotFoundError where there is none."""
    found = sorted(Path(folder).rglob("*.trace.json.gz"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(f"{folder}: no *.trace.json.gz below it. Write one with stretto train --profile 20:25.")
    return found[-1]


def operations(events: Iterable[Event]) -> dict[tuple[Any, Any], list[Event]]:
    """The compiled operations by the line of the picture that they are on; on a GPU only the line of operations.

    Streams of a GPU show the same operations once more, as kernels.
    """
    lines, names = defaultdict(list), {}
    for event in events:
        place = (event.get("pid"), event.get("tid"))
        if event.get("ph") == "M" and event.get("name") == "thread_name":
            names[place] = str(event["args"]["name"])
        elif event.get("ph") == "X" and "hlo_op" in event.get("args", {}):
            lines[place].append(event)
    summed = {place: found for place, found in lines.items() if "XLA Ops" in names.get(place, "")}
    return summed or dict(lines)


def own_time(events: Iterable[Event]) -> Counter[str]:
    """Microseconds of each operation of one line, without those that lie inside it."""
    found: Counter[str] = Counter()
    around: list[tuple[float, str]] = []
    for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
        while around and around[-1][0] <= event["ts"]:
            around.pop()
        name = re.sub(r"[.\d]+$", "", str(event["args"]["hlo_op"]))
        found[name] += event["dur"]
        if around:
            found[around[-1][1]] -= event["dur"]
        around.append((event["ts"] + event["dur"], name))
    return found


def largest(folder: str, count: int = 3) -> dict[str, Any]:
    """The most costly operations: {"trace", "microseconds", "largest": [{"operation", "microseconds", "share"}]}."""
    trace = newest_trace(folder)
    with gzip.open(trace) as file:
        lines = operations(json.load(file)["traceEvents"])
    total: Counter[str] = sum((own_time(found) for found in lines.values()), Counter())
    whole = sum(total.values())
    rows = [
        {"operation": name, "microseconds": round(spent), "share": round(spent / whole, 4)}
        for name, spent in total.most_common(count)
    ]
    return {"trace": trace.name, "microseconds": round(whole), "largest": rows}


if __name__ == "__main__":
    print(json.dumps(largest(sys.argv[1], 10), indent=1))
