"""A stack of convolutions over time and pitch that guesses the hidden cells of a score from those that are known.

Residual blocks of two convolutions with batch normalisation, as in Coconet (Huang et al. 2017, arXiv:1903.07227) and,
with `normalised` sums, as in a small harmoniser that came after it. What lies past the end of a piece is zero between
all layers and enters no statistic, so that a piece sounds the same to the model however far it is padded. No layer here
casts what it is given (`autocast=False`): masks and sums stay float32, convolutions cast their own input.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from trainer.backends import current
from trainer.layers.dropout import Dropout
from trainer.layers.remat import InBlocks

Tensor = Any
_DECAY = 0.99
_EPSILON = 1e-7


class Norm(keras.layers.Layer):
    """Batch normalisation whose statistics leave out what does not count.

    The averages that it keeps forget a hundredth a step, at the beginning more: a short run would else be judged by the
    averages it began with.

    Args:
        gamma: what its scale begins with.

    Call arguments:
        x: [batch, step, pitch, channel].
        real: float32 [batch, step], 1 for steps that count, else 0.
        training: whether the batch's own statistics are used, and kept; else the kept ones.
    """

    def __init__(self, gamma: float, **layer: Any) -> None:
        super().__init__(autocast=False, **layer)
        self.gamma_initializer = keras.initializers.Constant(gamma)
        self.beta_initializer = keras.initializers.Zeros()
        self.moving_mean_initializer = keras.initializers.Zeros()
        self.moving_variance_initializer = keras.initializers.Ones()
        self.moving_steps_initializer = keras.initializers.Zeros()

    def build(self, shape: tuple[int | None, ...]) -> None:
        """One scale, shift, mean and variance a channel, and how many steps the last two have seen."""
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            start = getattr(self, f"{name}_initializer")
            moves = not name.startswith("moving")
            setattr(self, name, self.add_weight((shape[-1],), start, trainable=moves, name=name, autocast=False))
        self.moving_steps = self.add_weight(
            (), self.moving_steps_initializer, trainable=False, name="moving_steps", autocast=False
        )

    def call(self, x: Tensor, real: Tensor, training: bool = False) -> Tensor:
        """The same shape and dtype as x, zero where nothing counts."""
        wide = ops.cast(x, "float32")
        mean, variance = (
            self._measured(wide, real) if training else (self.moving_mean.value, self.moving_variance.value)
        )
        scale = self.gamma * ops.rsqrt(variance + _EPSILON)
        # One product and one sum over the whole, which is what this costs: the mask goes into their factors.
        there = real[:, :, None, None]
        return ops.cast(wide * (scale * there) + (self.beta - mean * scale) * there, x.dtype)

    def _measured(self, x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [channel] of what counts; keeps their averages."""
        own = (ops.sum(real) * x.shape[2], _sum(x, real), _sum(ops.square(x), real))
        count, total, squares = current().summed(own)
        mean = total / ops.maximum(count, 1.0)
        # One pass instead of two; there is no bias, so the mean is not large beside the deviation.
        variance = ops.relu(squares / ops.maximum(count, 1.0) - ops.square(mean))
        steps = self.moving_steps.value
        decay = ops.where(count > 0, ops.minimum(_DECAY, (steps + 1.0) / (steps + 10.0)), 1.0)
        self.moving_steps.assign(steps + ops.where(count > 0, 1.0, 0.0))
        for kept, found in ((self.moving_mean, mean), (self.moving_variance, variance)):
            kept.assign(kept * decay + ops.stop_gradient(found) * (1.0 - decay))
        return mean, variance


def _sum(x: Tensor, real: Tensor) -> Tensor:
    """Sums [channel] over the steps that count; one product of matrices, which a CPU does in one pass."""
    pitches, channels = x.shape[2], x.shape[3]
    rows = ops.matmul(ops.reshape(real, (1, -1)), ops.reshape(x, (-1, pitches * channels)))
    return ops.sum(ops.reshape(rows, (pitches, channels)), axis=0)


class Convolution(keras.layers.Layer):
    """A convolution without bias and its normalisation; as one, or as one of each channel and one of a point.

    Args:
        filters, kernel, dilation: width of what comes out; cells a side; cells from one weight to the next.
        separable: depthwise first, then pointwise: fewer weights and operations.
        gamma: of the normalisation.
    """

    def __init__(self, filters: int, kernel: int, dilation: int, separable: bool, gamma: float, **layer: Any) -> None:
        super().__init__(autocast=False, **layer)
        shape = {"padding": "same", "dilation_rate": dilation, "use_bias": False}
        he = keras.initializers.HeNormal
        if separable:
            deep = keras.layers.DepthwiseConv2D(kernel, depthwise_initializer=he(), name="depthwise", **shape)
            deep.kernel_initializer = deep.depthwise_initializer  # where initial weights are looked for
            point = keras.layers.Conv2D(filters, 1, use_bias=False, kernel_initializer=he(), name="pointwise")
            self.parts = [deep, point]
        else:
            self.parts = [keras.layers.Conv2D(filters, kernel, kernel_initializer=he(), name="plain", **shape)]
        self.norm = Norm(gamma, name="norm")

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Builds the parts."""
        for part in self.parts:
            part.build(shape)
            shape = part.compute_output_shape(shape)
        self.norm.build(shape)

    def call(self, x: Tensor, real: Tensor, training: bool = False) -> Tensor:
        """[batch, step, pitch, channel] -> the same with `filters` channels."""
        for part in self.parts:
            x = part(x)
        return self.norm(x, real, training=training)


class Block(keras.layers.Layer):
    """Two convolutions and what came in.

    Args:
        convolutions: both.
        normalised: normalise the sum, as a harmoniser does, and the second convolution before it has a ReLU; Coconet
            does neither.
        gamma, dropout: of that normalisation; share of what comes out that is set to zero in training.
    """

    def __init__(
        self, first: Convolution, second: Convolution, normalised: bool, gamma: float, dropout: float, **layer: Any
    ) -> None:
        super().__init__(autocast=False, **layer)
        self.first, self.second = first, second
        self.norm = Norm(gamma, name="norm") if normalised else None
        self.dropout = Dropout(dropout, self.name, name="dropout")

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Builds the parts; what comes out has the shape of what comes in."""
        for part in (self.first, self.second, *([self.norm] if self.norm else [])):
            part.build(shape)

    def call(self, x: Tensor, real: Tensor, training: bool = False) -> Tensor:
        """[batch, step, pitch, channel] twice."""
        y = ops.relu(self.first(x, real, training=training))
        y = self.second(y, real, training=training)
        y = x + ops.relu(y) if self.norm else x + y
        y = self.norm(y, real, training=training) if self.norm else y
        return self.dropout(ops.relu(y), training=training)


class CellNetwork(InBlocks):
    """Logits of every cell's class: a pitch of the range, or, the last class, a rest.

    Args:
        pitches: how many rows the range has.
        voices: how many voices.
        stem: the first convolution.
        blocks: the blocks, first to last.
        head_kernel: cells a side of the last convolution.

    Call arguments:
        classes: int32 [batch, step, voice]: rows of the range 0.., then `pitches` for a rest.
        known: float32 [batch, step, voice], 1 for cells that are shown; the others may hold anything.
        real: float32 [batch, step], 1 for steps that are of the piece.

    Returns:
        float32 logits [batch, step, voice, class].
    """

    def __init__(
        self, pitches: int, voices: int, stem: Convolution, blocks: list[Block], head_kernel: int, **model: Any
    ) -> None:
        super().__init__(autocast=False, **model)
        self.pitches, self.voices, self.stem, self.blocks = pitches, voices, stem, blocks
        self.head = keras.layers.Conv2D(
            voices, head_kernel, padding="same", kernel_initializer="glorot_uniform", name="head", dtype="float32"
        )
        self.rest = keras.layers.Dense(voices, kernel_initializer="glorot_uniform", name="rest", dtype="float32")

    def build(self, steps: int) -> None:
        """Builds every part for windows of so many steps."""
        self.stem.build((None, steps, self.pitches, 2 * self.voices))
        inner = (None, steps, self.pitches, self.stem.parts[-1].filters)
        for part in (*self.blocks, self.head):
            part.build(inner)
        self.rest.build((None, steps, inner[-1]))
        self.built = True

    def call(self, classes: Tensor, known: Tensor, real: Tensor, training: bool = False) -> Tensor:
        """See the class."""
        x = self._shown(classes, known * real[:, :, None])
        x = ops.relu(self.stem(x, real, training=training))
        x = ops.cast(self.through(x, real, training=training), "float32")
        rows = ops.transpose(self.head(x), (0, 1, 3, 2))
        # A rest has no row: what speaks for it is seen in all rows at once.
        return ops.concatenate([rows, self.rest(ops.mean(x, axis=2))[..., None]], axis=-1)

    def _shown(self, classes: Tensor, known: Tensor) -> Tensor:
        """Rolls of the voices and planes of what is known, [batch, step, pitch, 2 x voice]; a rest: known, no pitch."""
        rolls = ops.one_hot(classes, self.pitches, dtype="float32") * known[..., None]
        rolls = ops.transpose(rolls, (0, 1, 3, 2))
        planes = ops.broadcast_to(known[:, :, None, :], ops.shape(rolls))
        return ops.cast(ops.concatenate([rolls, planes], axis=-1), self.compute_dtype)
