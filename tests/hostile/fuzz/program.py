"""One target under the fuzzer: python -m tests.hostile.fuzz.program TARGET FINDINGS [flags of libFuzzer] CORPUS.

What the target lets out is a finding: the input is kept under the name of the exception and of its place, once for
each such place, and the search goes on. What ends the process (a signal, too much time or memory) is kept by libFuzzer.
"""

import hashlib
import importlib
import operator
import sys
import traceback
from pathlib import Path
from random import Random
from typing import Any

import atheris
import numpy as np

PACKAGES = ["schemas", "media", "beam_pipelines", "trainer"]


def main() -> None:
    """Runs the target that the first word names."""
    program, name, folder, *flags = sys.argv
    with atheris.instrument_imports(include=PACKAGES):
        target = importlib.import_module(f"tests.hostile.fuzz.{name}")
    kept = Path(folder)

    def one_input(data: bytes) -> None:
        let_arrays_be()  # here, because Fuzz puts functions of its own in place
        try:
            target.attack(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            keep(kept, error, data)

    def mutated(data: bytes, longest: int, seed: int) -> bytes:
        def plain(part: bytes) -> bytes:
            return bytes(atheris.Mutate(bytes(part), longest))

        return bytes(target.mutated(bytes(data), Random(seed), plain))[:longest]

    atheris.Setup([program, f"-max_len={target.LONGEST}", *flags], one_input, custom_mutator=mutated)
    atheris.Fuzz()


OPERATORS = (operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge)


def let_arrays_be() -> None:
    """Keeps comparisons of arrays from atheris 3.0, which never frees what they give."""
    traced = atheris._trace_cmp
    if hasattr(traced, "lets_arrays_be"):
        return

    def compared(left: Any, right: Any, kind: int, counter: int, is_constant: bool) -> Any:
        if isinstance(left, (np.ndarray, np.generic)) or isinstance(right, (np.ndarray, np.generic)):
            return OPERATORS[kind](left, right)
        return traced(left, right, kind, counter, is_constant)

    compared.lets_arrays_be = True  # type: ignore[attr-defined]
    atheris._trace_cmp = compared


def keep(folder: Path, error: Exception, data: bytes) -> None:
    """Keeps an input that gave an error, unless a shorter one that gave it at the same place is kept already."""
    path = folder / signature(error)
    if not path.exists() or path.stat().st_size > len(data):
        path.write_bytes(data)
        path.with_suffix(".txt").write_text("".join(traceback.format_exception(error)))


def signature(error: BaseException) -> str:
    """The kind of an error and the line that it came from: the same for the same fault."""
    frames: list[Any] = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).stem}-{frames[-1].lineno}" if frames else "nowhere"
    mark = hashlib.sha256("".join(f"{frame.filename}:{frame.lineno}" for frame in frames[-3:]).encode()).hexdigest()[:6]
    return f"{type(error).__name__}-{place}-{mark}"


if __name__ == "__main__":
    main()
