"""TensorFlow: how a function is differentiated, compiled and saved. The functions are described in the package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

Tensor = Any


def prepare(deterministic: bool) -> None:
    """Makes operations repeat their bits: on a CPU always, on accelerators where asked for."""
    if deterministic or not tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()


def compile_step(fn: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
    """`fn` as one graph; variables live in TensorFlow, so that assignments stay of themselves."""
    return tf.function(fn, autograph=False, jit_compile=_has_xla())


def compile_function(model: Any, fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` as one graph; called again for other shapes it is compiled again."""
    return tf.function(fn, autograph=False, jit_compile=_has_xla(), reduce_retracing=False)


def _has_xla() -> bool:
    # On a CPU the compiler costs more than it brings.
    return bool(tf.config.list_physical_devices("GPU"))


def gradients(
    fn: Callable[[], tuple[Tensor, Any]], variables: Sequence[Any], state: Sequence[Any]
) -> tuple[Any, list[Tensor]]:
    """Value of `fn` and the gradients of its first result.

    Every gradient is made dense: that of an embedding comes as rows with repeated ids, which an optimiser with a
    second moment would square one by one.
    """
    values = [variable.value for variable in variables]
    with tf.GradientTape() as tape:
        total, rest = fn()
    found = tape.gradient(total, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return (total, rest), [tf.convert_to_tensor(item) for item in found]


def gradient(fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gradient of the scalar `fn(x)` by `x`."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = fn(x)
    return tape.gradient(value, x)


def values(variables: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """The variables as arrays, in order."""
    return [np.asarray(variable.value) for variable in variables]


def abstract(variables: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """An array of the shape and type of each variable, without memory of its own; Orbax then reads into NumPy."""
    return [np.broadcast_to(np.zeros((), tf.as_dtype(item.dtype).as_numpy_dtype), item.shape) for item in variables]


def restore(variables: Sequence[Any], arrays: Sequence[Any]) -> None:
    """Assigns arrays to variables, in order."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(np.asarray(array))
