"""The heaps of a training process: as many as it has cores, whatever its threads do."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from trainer.heaps import limit_heaps

_COUNTED = """
import ctypes, os, sys, tempfile, threading
from trainer.heaps import limit_heaps
if sys.argv[1] == "limited":
    assert limit_heaps({})
count = 4 * max(2, os.cpu_count())
library, meet = ctypes.CDLL(None), threading.Barrier(count)
library.malloc.restype = ctypes.c_void_p
def work():
    meet.wait()
    library.malloc(1000)
    meet.wait()
threads = [threading.Thread(target=work) for _ in range(count)]
for thread in threads: thread.start()
for thread in threads: thread.join()
library.fopen.restype, library.fopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_char_p]
library.malloc_info.argtypes, library.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
with tempfile.NamedTemporaryFile() as file:
    stream = library.fopen(file.name.encode(), b"w")
    library.malloc_info(0, stream)
    library.fclose(stream)
    print(file.read().count(b"<heap nr="), max(2, os.cpu_count()))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has heaps that can be counted")
def test_threads_share_as_many_heaps_as_there_are_cores() -> None:
    limited, cores = counted("limited")
    assert limited <= cores < counted("free")[0]


def counted(how: str) -> tuple[int, int]:
    """Heaps of a process with four threads for each core, and its cores."""
    done = subprocess.run([sys.executable, "-c", _COUNTED, how], capture_output=True, text=True, check=True)
    heaps, cores = map(int, done.stdout.split())
    return heaps, cores


@pytest.mark.parametrize("said", [{"MALLOC_ARENA_MAX": "7"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=7"}])
def test_what_the_environment_says_of_heaps_is_left_alone(
    said: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: object) -> None:
        raise AssertionError("it was not left alone")

    monkeypatch.setattr("ctypes.CDLL", refuse)
    assert limit_heaps(said)
