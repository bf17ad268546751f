"""The whole road on real music: chorales to shards, a small trained model, its scores, and music to open."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

DEMO = Path("demo")
DATA, RUN, SAMPLES = DEMO / "chorales", DEMO / "tiny-chorales", DEMO / "samples"
STRETTO = Path(sys.executable).with_name("stretto")


def main() -> int:
    """Types the commands a user would type, and says what came of them and where it lies."""
    stretto("prepare", "music21-chorales", "--output", DATA, "--window", 256, "--overwrite")
    stretto("verify", DATA)
    stretto("train", "tiny-chorales", "--data", DATA, "--output", RUN)
    stretto("evaluate", RUN, "--split", "validation")
    stretto("sample", RUN, "--count", 4, "--length", "30s", "--allow-longer", "--output", SAMPLES, "--overwrite")
    print(summary(newest_scores()))
    return 0


def stretto(*words: object) -> None:
    """Types one command and shows it; ends the demo with the command's own exit code where it fails."""
    command = [str(word) for word in words]
    print("\n$ stretto " + " ".join(command), flush=True)
    code = subprocess.run([STRETTO, *command]).returncode
    if code:
        raise SystemExit(code)


def newest_scores() -> dict[str, Any]:
    """What `stretto evaluate` wrote last."""
    written = sorted((RUN / "evaluations").glob("validation-*.json"), key=lambda path: path.stat().st_mtime)
    return json.loads(written[-1].read_text())


def summary(scores: dict[str, Any]) -> str:
    """The lines printed last: two numbers to compare, every file worth opening, and how to watch the training."""
    model, bigram = scores["nats_per_token"], scores["bigram_nats_per_token"]
    return "\n".join(
        [
            "",
            f"validation: {model:.3f} nats per token; a bigram of train {bigram:.3f}; ratio {model / bigram:.3f}",
            "",
            *(f"{kind:<12}{path}" for kind, path in results()),
            f"{'TensorBoard':<12}{STRETTO.relative_to(Path.cwd())} monitor {RUN}",
        ]
    )


def results() -> list[tuple[str, Path]]:
    """(kind, path) of everything the demo leaves behind, in the order to look at it."""
    kinds = {".mid": "MIDI", ".wav": "WAV", ".png": "PNG"}
    music = [(kinds[path.suffix], path) for path in sorted(SAMPLES.iterdir()) if path.suffix in kinds]
    return [*music, ("report", DATA / "report.html"), ("card", DATA / "card.md"), ("scores", RUN / "evaluations")]


if __name__ == "__main__":
    raise SystemExit(main())
