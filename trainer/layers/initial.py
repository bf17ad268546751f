"""Initial weights drawn with NumPy by (seed, path of the variable): equal on every backend, in every process.

Each layer says how a weight of its own is to begin: `layer.<name of the weight>_initializer`, as all layers of Keras
do. That object is read for its distribution only; its own random numbers differ between backends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from schemas.hashing import generator

Array = np.ndarray[Any, Any]
_TRUNCATED_STDDEV = 0.87962566103423978
"""Standard deviation of a normal distribution cut at two of its own: what Keras corrects for."""


def draw_initial(model: keras.Model, seed: int) -> None:
    """Assigns every weight and kept average of a built model, and the state of every random generator in it, anew.

    Raises:
        ValueError: a weight that does not begin constant lacks its `_initializer` attribute, or its kind is unknown
            here.
    """
    drawn = set()
    for layer in model._flatten_layers():  # the public `layers` does not descend
        for variable in layer._trainable_variables:
            drawn.add(id(variable))
            variable.assign(_initial(layer, variable, generator(seed, path_of(model, variable), "initial weights")))
        for variable in layer._non_trainable_variables:
            # Averages that a normalisation keeps: a run that begins anew in the same process has moved them.
            if hasattr(layer, f"{variable.name}_initializer"):
                variable.assign(_initial(layer, variable, generator(seed, path_of(model, variable), "initial weights")))
    for variable in model.variables:
        if variable.name == "seed_generator_state":
            variable.assign(_random_state(generator(seed, path_of(model, variable), "dropout")))
        elif variable.trainable and id(variable) not in drawn:
            raise ValueError(f"{variable.path}: belongs to no layer of {model.name}, so nothing says how it begins")


def path_of(model: keras.Model, variable: Any) -> str:
    """A variable's path below its model, whose own name may carry a number that differs between processes."""
    return str(variable.path).removeprefix(f"{model.name}/")


def _random_state(draw: np.random.Generator) -> Array:
    """State of a Keras SeedGenerator: seed and counter."""
    return np.array([draw.integers(2**31), 0], np.uint32)


def _initial(layer: Any, variable: Any, draw: np.random.Generator) -> Array:
    initializer = getattr(layer, f"{variable.name}_initializer", None)
    if initializer is None:
        value = np.asarray(keras.ops.convert_to_numpy(variable.value))
        if np.unique(value).size <= 1:
            return value
        raise ValueError(
            f"{variable.path}: {type(layer).__name__} must keep how it begins as self.{variable.name}_initializer"
        )
    kind = type(keras.initializers.get(initializer)).__name__
    if kind not in _KINDS:
        raise ValueError(f"{variable.path}: no way to draw {kind} here; known: {', '.join(sorted(_KINDS))}")
    return _KINDS[kind](keras.initializers.get(initializer), tuple(variable.shape), draw).astype(np.float32)


def _normal(item: Any, shape: tuple[int, ...], draw: np.random.Generator) -> Array:
    return draw.normal(item.mean, item.stddev, shape)


def _uniform(item: Any, shape: tuple[int, ...], draw: np.random.Generator) -> Array:
    return draw.uniform(item.minval, item.maxval, shape)


def _truncated(item: Any, shape: tuple[int, ...], draw: np.random.Generator) -> Array:
    return item.mean + item.stddev * _truncated_standard(shape, draw)


def _truncated_standard(shape: tuple[int, ...], draw: np.random.Generator) -> Array:
    values = draw.standard_normal(shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = draw.standard_normal(int(outside.sum()))
    return values


def _scaled(item: Any, shape: tuple[int, ...], draw: np.random.Generator) -> Array:
    """VarianceScaling and its children: Glorot, He, LeCun."""
    receiving, sending = fans(shape)
    count = {"fan_in": receiving, "fan_out": sending, "fan_avg": (receiving + sending) / 2}[item.mode]
    variance = item.scale / max(1.0, count)
    if item.distribution == "uniform":
        return draw.uniform(-np.sqrt(3 * variance), np.sqrt(3 * variance), shape)
    if item.distribution == "untruncated_normal":
        return draw.normal(0.0, np.sqrt(variance), shape)
    return np.sqrt(variance) / _TRUNCATED_STDDEV * _truncated_standard(shape, draw)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many values go into and come out of each unit of a kernel; further axes are the field of a convolution."""
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    field = int(np.prod(shape[:-2]))
    return shape[-2] * field, shape[-1] * field


def _orthogonal(item: Any, shape: tuple[int, ...], draw: np.random.Generator) -> Array:
    rows, columns = int(np.prod(shape[:-1])), shape[-1]
    q, r = np.linalg.qr(draw.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return item.gain * (q.T if rows < columns else q).reshape(shape)


def _zeros(item: Any, shape: tuple[int, ...], draw: np.random.Generator) -> Array:
    return np.zeros(shape)


def _ones(item: Any, shape: tuple[int, ...], draw: np.random.Generator) -> Array:
    return np.ones(shape)


def _constant(item: Any, shape: tuple[int, ...], draw: np.random.Generator) -> Array:
    return np.full(shape, item.value)


_SCALED = ("VarianceScaling", "GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform", "LecunNormal")
_KINDS: dict[str, Callable[[Any, tuple[int, ...], np.random.Generator], Array]] = {
    "RandomNormal": _normal,
    "RandomUniform": _uniform,
    "TruncatedNormal": _truncated,
    "Orthogonal": _orthogonal,
    "Zeros": _zeros,
    "Ones": _ones,
    "Constant": _constant,
    **dict.fromkeys(_SCALED, _scaled),
}
