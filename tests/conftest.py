"""Fixtures for all tests: real music where it is there."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# A machine that is busy is not a fault of the code, and the same commit draws the same examples everywhere.
settings.register_profile("stretto", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("stretto")


def data_folder() -> Path:
    """Where real music lies: STRETTO_TEST_DATA, else a folder beside the checkout."""
    return Path(os.environ.get("STRETTO_TEST_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def sample_data() -> Callable[[str], Path]:
    """A function: name ("maestro/maestro-v3.0.0") -> path below the folder of real music; skips where it is missing."""

    def find(name: str) -> Path:
        path = data_folder() / name
        if not path.exists():
            pytest.skip(f"needs {name}, looked for in {data_folder()}: set STRETTO_TEST_DATA to a folder that holds it")
        return path

    return find


def pytest_configure() -> None:
    """A shell starts what it runs in the background deaf to Ctrl-C; commands that the tests start must hear it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
