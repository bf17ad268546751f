"""Beam, imported without the packages it can do without: they would cost every process a second and 70 MB."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_UNNEEDED = ("pandas", "pyarrow")


@contextmanager
def without_unneeded_packages() -> Iterator[None]:
    """Lets `import apache_beam` inside believe that its optional packages are not installed; later they can be."""
    # Beam warns about each optional package it misses; nobody can act on that.
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    hidden = [name for name in _UNNEEDED if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        logging.disable(level)
