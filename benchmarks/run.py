"""Runs every measurement of this folder, one after the other; `make bench`. Names choose some: `run.py reader`."""

import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main(names: list[str]) -> int:
    """Runs the chosen measurements, all of them unless told, each in a process of its own. Returns 1 if one failed."""
    others = {Path(__file__).stem, *(path.stem for path in FOLDER.glob("peer_*.py"))}
    known = {path.stem: path for path in sorted(FOLDER.glob("*.py")) if path.stem not in others}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no measurement {', '.join(unknown)}. There are: {', '.join(known)}", file=sys.stderr)
        return 2
    failed = [name for name in names or known if measure(known[name])]
    return int(bool(failed))


def measure(script: Path) -> bool:
    """Runs one; says how long it took. Whether it failed."""
    print(f"\n=== {script.stem}", flush=True)
    started = time.monotonic()
    code = subprocess.run([sys.executable, str(script)]).returncode
    print(f"=== {script.stem}: {'done' if code == 0 else f'failed with {code}'} in {time.monotonic() - started:.0f} s")
    return code != 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
