"""Sentences for the person who waits, on standard error. That nobody reads them any more ends no training."""

from __future__ import annotations

import contextlib
import os
import sys

from schemas.naming import readable

_STANDARD_ERROR = 2


def tell(sentence: str) -> None:
    """Prints a sentence on one line; from the first time that it cannot be printed on, says nothing."""
    try:
        print(readable(sentence), file=sys.stderr, flush=True)
    except OSError:
        hush()


def tell_at_once(sentence: bytes) -> None:
    """The same from a handler of signals, which may have come while this very thread was printing: no `print`."""
    try:
        os.write(_STANDARD_ERROR, sentence + b"\n")
    except OSError:
        hush()


def hush() -> None:
    """Sends the rest of standard error nowhere: what could not be written is tried again when Python ends."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STANDARD_ERROR)
        os.close(nowhere)
