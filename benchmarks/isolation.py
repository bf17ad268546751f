"""What it costs to read every input first in a process that can be killed: builds with it and without, in turns.

    isolation.py [--data DIR] [--pairs N]

Without it, the survey reads in the worker itself. Both write the same MAESTRO dataset in 35 variants with one worker;
CPU seconds of all processes and wall seconds, medians and the range of the ratios of pairs.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from prepare import ROOT, VARIANTS, data_folder, measured

START = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from stretto import main; "
INSIDE = "import beam_pipelines.survey as s; s.safely_surveyed = lambda reading, item: s.survey(reading._build, item); "


def run(corpus: Path, apart: bool) -> tuple[float, float]:
    """CPU and wall seconds of one build."""
    with tempfile.TemporaryDirectory() as folder:
        code = START + ("" if apart else INSIDE) + "sys.exit(main())"
        output = ["--output", f"{folder}/out", "--workers", "1", *VARIANTS]
        cpu, wall, _ = measured([sys.executable, "-c", code, "prepare", "maestro", "--input", str(corpus), *output])
    return cpu, wall


def main() -> None:
    """Prints the medians and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None, help="the folder of MAESTRO")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    corpus = options.data or data_folder() / "maestro" / "maestro-v3.0.0"
    pairs = [(run(corpus, True), run(corpus, False)) for _ in range(options.pairs)]
    for number, what in enumerate(("CPU", "wall")):
        apart, inside = ([pair[side][number] for pair in pairs] for side in (0, 1))
        ratios = sorted(one / other for one, other in zip(apart, inside, strict=True))
        print(
            f"{what} seconds: {statistics.median(apart):.2f} apart, {statistics.median(inside):.2f} without; "
            f"ratio {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}, {len(ratios)} pairs)"
        )


if __name__ == "__main__":
    main()
