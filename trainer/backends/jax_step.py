"""JAX: how a function is differentiated, compiled and saved. The functions are described in the package.

Keras variables hold state, compiled functions may not. A `StatelessScope` stands in between: inside it variables are
what the function was given, and assignments are collected and handed out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import keras

Tensor = Any


def prepare(deterministic: bool) -> None:
    """Makes operations repeat their bits on GPUs where asked for; elsewhere they do."""
    if deterministic:
        # Read once, when the first device is asked for: asking first whether there is a GPU would be too late.
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"


def compile_step(fn: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
    """`fn` compiled, the variables donated to it and taken back; what it assigns is put in place after each call."""
    variables = list(variables)

    def pure(state: list[Any], *arrays: Any) -> tuple[list[Any], Any]:
        with keras.StatelessScope(list(zip(variables, state, strict=True))) as scope:
            out = fn(*arrays)
        return [scope.get_current_value(variable) for variable in variables], out

    compiled = jax.jit(pure, donate_argnums=0)

    def call(*arrays: Any) -> Any:
        state, out = compiled([variable.value for variable in variables], *arrays)
        for variable, value in zip(variables, state, strict=True):
            variable.assign(value)
        return out

    return call


def compile_function(model: keras.Model, fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` compiled with the model's variables as arguments, so that they are no constants of it."""
    variables = list(model.variables)

    def pure(state: list[Any], *arrays: Any) -> Any:
        with keras.StatelessScope(list(zip(variables, state, strict=True))):
            return fn(*arrays)

    compiled = jax.jit(pure)

    def call(*arrays: Any) -> Any:
        return compiled([variable.value for variable in variables], *arrays)

    return call


def gradients(
    fn: Callable[[], tuple[Tensor, Any]], variables: Sequence[Any], state: Sequence[Any]
) -> tuple[Any, list[Tensor]]:
    """Value of `fn` and the gradients of its first result; what it assigns to `state` (seeds, averages) stays."""
    variables, state = list(variables), list(state)

    def pure(moving: list[Any], resting: list[Any]) -> tuple[Tensor, Any]:
        with keras.StatelessScope([*zip(variables, moving, strict=True), *zip(state, resting, strict=True)]) as scope:
            total, rest = fn()
        return total, (rest, [scope.get_current_value(item) for item in state])

    now = [item.value for item in variables], [item.value for item in state]
    (total, (rest, after)), found = jax.value_and_grad(pure, has_aux=True)(*now)
    for item, value in zip(state, after, strict=True):
        item.assign(value)
    return (total, rest), found


def gradient(fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gradient of the scalar `fn(x)` by `x`."""
    return jax.grad(fn)(x)


def values(variables: Sequence[Any]) -> list[Any]:
    """The variables as arrays, in order."""
    return [variable.value for variable in variables]


def abstract(variables: Sequence[Any]) -> list[Any]:
    """Shape, type and place of each variable."""
    return [
        jax.ShapeDtypeStruct(item.value.shape, item.value.dtype, sharding=item.value.sharding) for item in variables
    ]


def restore(variables: Sequence[Any], arrays: Sequence[Any]) -> None:
    """Assigns arrays to variables, in order."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
