"""Fuzzes the readers one after the other and says what was tried and found.

    python -m tests.hostile.fuzz.run [--seconds 60] [--target NAME] [--folder .fuzz] [--json]

The folder keeps the corpus of each target, from which the next run goes on, and what was found. Exit code 1 where
anything was: mend it, and put the input into tests/hostile/fuzz/regressions/TARGET/, where the tests replay it.
"""

import argparse
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))
TARGETS = ("midi", "tfrecord", "manifest", "musicxml", "jsb")
MEGABYTES = 600
"""Most memory that a reader may need, interpreter, NumPy and the fuzzer's corpus included."""
SECONDS_FOR_ONE = 10
_STATUS = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)/")
_FINAL = re.compile(r"stat::(\w+):\s+(\d+)")
_ENDED_BY = ("crash-*", "timeout-*", "oom-*", "leak-*")
_TRIES = 3000


def fuzz(target: str, seconds: int, folder: Path) -> dict[str, Any]:
    """Fuzzes one target for so many seconds: what it tried, and the inputs that were found, made short."""
    corpus, findings, seeds = (folder / target / name for name in ("corpus", "findings", "seeds"))
    for place in (corpus, findings, seeds):
        place.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(importlib.import_module(f"tests.hostile.fuzz.{target}").seeds()):
        (seeds / f"{number:03d}").write_bytes(data)
    flags = [f"-max_total_time={seconds}", f"-timeout={SECONDS_FOR_ONE}", f"-rss_limit_mb={MEGABYTES}"]
    flags += ["-print_final_stats=1", "-verbosity=1", f"-artifact_prefix={findings}/"]
    words = [sys.executable, "-m", "tests.hostile.fuzz.program", target, str(findings), *flags, str(corpus), str(seeds)]
    log = folder / target / "log"
    with open(log, "wb") as file:
        code = subprocess.run(words, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=seconds + 600).returncode
    text = log.read_text(errors="replace")
    found = sorted(path for path in findings.iterdir() if path.suffix != ".txt")
    for path in found:
        minimise(target, path)
    return {"target": target, "exit_code": code, **figures(text), "findings": [str(path) for path in found]}


def figures(log: str) -> dict[str, int]:
    """What libFuzzer says at its end: inputs tried, edges of our code that were reached, inputs kept, peak memory."""
    status = _STATUS.findall(log)
    final = {name: int(value) for name, value in _FINAL.findall(log)}
    return {
        "executions": final.get("number_of_executed_units", 0),
        "coverage": int(status[-1][0]) if status else 0,
        "corpus": int(status[-1][2]) if status else 0,
        "peak_megabytes": final.get("peak_rss_mb", 0),
        "slowest_seconds": final.get("slowest_unit_time_sec", 0),
    }


def minimise(target: str, path: Path) -> None:
    """Shortens an input while it still gives the same error; one that ends the process is left as it is."""
    if any(path.match(pattern) for pattern in _ENDED_BY):
        return
    want = error_of(target, path.read_bytes())
    if want is not None:
        path.write_bytes(shortest(path.read_bytes(), lambda data: error_of(target, data) == want))


def error_of(target: str, data: bytes) -> tuple[str, int] | None:
    """Kind and line of the error that an input gives, or None."""
    try:
        importlib.import_module(f"tests.hostile.fuzz.{target}").attack(data)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what was found
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        return type(error).__name__, place.tb_lineno if place else 0
    return None


def shortest(data: bytes, is_wanted: Callable[[bytes], bool]) -> bytes:
    """The input with every piece left out that is not needed, the large ones first; a bounded number of tries."""
    size, tries = max(1, len(data) // 2), 0
    while tries < _TRIES:
        place, shorter = 0, False
        while place < len(data) and tries < _TRIES:
            without = data[:place] + data[place + size :]
            tries += 1
            if is_wanted(without):
                data, shorter = without, True
            else:
                place += size
        if size == 1 and not shorter:
            break
        size = max(1, size // 2) if not shorter else size
    return data


def main() -> int:
    """Reads the flags, runs the targets, prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="how long each target is fuzzed")
    parser.add_argument("--target", choices=TARGETS, help="this one alone")
    parser.add_argument("--folder", type=Path, default=ROOT / ".fuzz", help="where corpus and findings are kept")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    results = []
    for target in TARGETS if options.target is None else (options.target,):
        results.append(fuzz(target, options.seconds, options.folder.resolve()))
        print(json.dumps(results[-1]) if options.json else line(results[-1]), flush=True)
    return int(any(result["findings"] or result["exit_code"] for result in results))


def line(result: dict[str, Any]) -> str:
    """The figures of a target for a person."""
    words = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in result.items() if type(value) is int)
    return "\n  found: ".join([f"{result['target']}: {words}", *result["findings"]])


if __name__ == "__main__":
    sys.exit(main())
