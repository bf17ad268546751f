"""The whole road on real music: chorales to shards, a small trained model, scores, and music to open."""

import json
import subprocess
import sys
from pathlib import Path

DEMO = Path("demo")
DATA, RUN, SAMPLES = DEMO / "chorales", DEMO / "tiny-chorales", DEMO / "samples"


def main() -> int:
    """Runs the five commands a user would type, and says where their results lie."""
    stretto("prepare", "music21-chorales", "--output", DATA, "--overwrite")
    stretto("verify", DATA)
    stretto("train", "tiny-chorales", "--data", DATA, "--output", RUN)
    scores = json.loads(stretto("evaluate", RUN, "--split", "validation", "--json", capture=True))
    stretto("sample", RUN, "--count", 4, "--output", SAMPLES)
    print(summary(scores))
    return 0


def stretto(*words: object, capture: bool = False) -> str:
    """Types one command, shown as typed; ends the demo with the command's own exit code where it fails."""
    command = [str(word) for word in words]
    print("\n$ stretto " + " ".join(command), flush=True)
    executable = Path(sys.executable).with_name("stretto")
    done = subprocess.run([executable, *command], stdout=subprocess.PIPE if capture else None, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout or ""


def summary(scores: dict[str, float]) -> str:
    """The lines printed last: two numbers to compare, and every file worth opening."""
    model, bigram = scores["nats_per_token"], scores["bigram_nats_per_token"]
    lines = [
        "",
        f"validation: {model:.3f} nats per token; a bigram counted on train: {bigram:.3f} ({model / bigram:.2f} of it)",
        "",
        *(f"{kind:<8}{path}" for kind, path in results()),
        "",
        f"watch     {sys.executable.replace('python', 'stretto')} monitor {RUN}",
    ]
    return "\n".join(lines)


def results() -> list[tuple[str, Path]]:
    """(kind, path) of everything the demo leaves behind, in the order to look at it."""
    found = [
        (path.suffix[1:].upper(), path)
        for path in sorted(SAMPLES.rglob("*"))
        if path.suffix in (".mid", ".wav", ".png")
    ]
    return [*found, ("report", DATA / "report.html"), ("card", DATA / "card.md"), ("scores", RUN / "evaluations")]


if __name__ == "__main__":
    raise SystemExit(main())
