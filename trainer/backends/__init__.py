"""The two files that know a backend, and what picks one of them.

Both offer the same functions, so that everything else is written once:

    prepare(deterministic, mesh, processes)  settings of the process, before anything is built
    Devices(mesh, processes)               what computes a step together; it compiles steps and takes their batches
    summed(tree), replica()                inside a step: sums over all devices; which copy of the model runs it
    apply(optimiser, grads, variables)     inside a step: moves the variables
    compile_function(model, fn)            `fn(*arrays) -> tree` compiled, that only reads the model (scoring, sampling)
    gradients(fn, variables, state)        `fn() -> (scalar, tree)` -> ((scalar, tree), dense gradients)
    gradient(fn, x)                        of a scalar by a tensor, for penalties
    recomputed(fn, variables, *inputs)     inside a step: `fn(*inputs)`, computed again for the gradient instead of kept
    join(processes, seconds)               meets the other processes, before anything is asked of a device
    has_fused_attention()                  whether attention without a bias may be one kernel
    is_out_of_memory(error)                whether a step failed because the device has no room
    is_lost_peer(error)                    whether a step failed because another process is gone
    start_profile(folder), stop_profile()  for TensorBoard's profile plugin
    peak_memory()                          most bytes in use on a device, where it tells
    same_everywhere(text)                  whether all processes say the same
    whole(array)                           an array as NumPy, on whatever devices of whatever processes it lies
    values(variables)                      copies of variables as NumPy arrays, each whole, on whatever devices it lies
    restore(variables, arrays)             the inverse of `values`
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from schemas.errors import MissingExtra

_MODULES = {"tensorflow": "trainer.backends.tensorflow_step", "jax": "trainer.backends.jax_step"}


def choose(backend: str) -> str:
    """`auto` resolved: TensorFlow where it is installed, else JAX. Raises MissingExtra for one that is absent."""
    if backend == "auto":
        backend = "tensorflow" if importlib.util.find_spec("tensorflow") else "jax"
    if importlib.util.find_spec(backend) is None:
        raise MissingExtra(backend, "tensorflow" if backend == "tensorflow" else "trainer")
    return backend


def set_backend(backend: str) -> str:
    """Makes Keras use a backend; to be called before Keras is imported. Returns the one chosen for `auto`."""
    backend = choose(backend)
    os.environ["KERAS_BACKEND"] = backend
    if backend == "tensorflow":
        # Orbax starts a JAX client, which would take the accelerator's memory away from TensorFlow.
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with _without_greetings():
            importlib.import_module("tensorflow")
    return backend


@contextmanager
def _without_greetings() -> Iterator[None]:
    """Hides what TensorFlow writes while it is loaded, before its log level counts; if loading fails it is shown."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(terminal, kept.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def current() -> ModuleType:
    """The module of the backend that Keras runs on."""
    import keras

    return importlib.import_module(_MODULES[keras.backend.backend()])
