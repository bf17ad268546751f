"""One update of the weights, written once in keras.ops; differentiating and compiling are left to the backend's file.

Sums, not means: totals, weights and gradients are added over the parts of a batch and divided once. So padding,
masks, remainders and accumulation give the same number, where the loss of an example does not hang on the others of its
part; batch statistics do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from trainer.backends import current
from trainer.config import TrainSettings
from trainer.task import STOPPING, Batch, Context, Objective, Sum

Tensor = Any
Logs = dict[str, Tensor]


class Update:
    """The only way weights move: call it with a batch and get the logs of that step.

    Attributes:
        model, objectives, optimisers: what is trained; one optimiser for each objective.
        variables: everything that a step may change, in a stable order: weights, random seeds, optimisers. This, and
            nothing else, is what a checkpoint holds.
    """

    def __init__(
        self, model: keras.Model, objectives: Sequence[Objective], settings: TrainSettings, devices: Any = None
    ) -> None:
        self.model, self.objectives, self.settings = model, list(objectives), settings
        self.devices = devices or current().Devices()
        self.optimisers = [make_optimiser(settings, objective.name) for objective in self.objectives]
        for objective, optimiser in zip(self.objectives, self.optimisers, strict=True):
            optimiser.build(objective.variables(model))
            exclude_from_decay(optimiser, objective.variables(model))
        self.variables = [*model.variables, *(item for one in self.optimisers for item in one.variables)]
        self._compiled: dict[tuple[bool, ...], Callable[..., Logs]] = {}

    def __call__(self, batch: Batch, learning_rate: float, seed: int, active: tuple[bool, ...]) -> Logs:
        """Logs of one step, scalars that may still be on the device.

        They are loss, weight (what it was divided by), gradient_norm, weight_norm, and the objectives' own.

        `batch`: {name: [batch, ...]}; `seed`: changes with the step; `active`: which objectives move.
        """
        if active not in self._compiled:
            self._compiled[active] = self.devices.compile_step(partial(self._step, active), self.variables)
        return self._compiled[active](self.devices.batch(batch), np.float32(learning_rate), np.int32(seed))

    def place(self) -> None:
        """Lays the variables out over the devices again, after values were assigned to them."""
        self.devices.place(self.variables)

    @property
    def compilations(self) -> int:
        """How often steps were compiled: once, unless shapes or the objectives that move change."""
        return sum(step.compilations() for step in self._compiled.values())

    def begin_optimisers(self) -> None:
        """Puts the optimisers back to where they stand before the first step."""
        for objective, optimiser in zip(self.objectives, self.optimisers, strict=True):
            fresh = make_optimiser(self.settings, objective.name)
            fresh.build(objective.variables(self.model))
            for variable, first in zip(optimiser.variables, fresh.variables, strict=True):
                variable.assign(first.value)

    def _step(self, active: tuple[bool, ...], batch: Batch, learning_rate: Tensor, seed: Tensor) -> Logs:
        batch, marked = asked_to_stop(batch)
        logs: Logs = current().summed(marked) if marked else {}
        for objective, optimiser, moves in zip(self.objectives, self.optimisers, active, strict=True):
            prefix = f"{objective.name}/" if len(self.objectives) > 1 else ""
            for part in split(batch, objective.repeat if moves else 0):
                found = self._minimise(objective, optimiser, part, learning_rate, seed)
                logs.update({prefix + name: value for name, value in found.items()})
        return logs

    def _minimise(
        self,
        objective: Objective,
        optimiser: keras.optimizers.Optimizer,
        batch: Batch,
        learning_rate: Tensor,
        seed: Tensor,
    ) -> Logs:
        variables = objective.variables(self.model)
        sums, grads = self.sums_and_gradients(objective, batch, seed)
        logs = {**means(sums), "weight": sums["loss"][1]}
        grads = [grad / safe(sums["loss"][1]) for grad in grads]
        logs["gradient_norm"] = global_norm(grads)
        optimiser.learning_rate = learning_rate
        current().apply(optimiser, clipped(grads, logs["gradient_norm"], self.settings.clip), variables)
        logs["weight_norm"] = global_norm([item.value for item in variables])
        return logs

    def scores(self, batch: Batch) -> dict[str, Any]:
        """{name: (total, weight)} of the first objective over a batch, as it is scored; and its mark, summed."""
        batch, marked = asked_to_stop(batch)
        _, found = _loss(self.objectives[0], self.model, batch, Context(False, np.int32(0), current().gradient))
        return found | marked

    def sums_and_gradients(
        self, objective: Objective, batch: Batch, seed: Tensor
    ) -> tuple[dict[str, Sum], list[Tensor]]:
        """{name: (total, weight)}, "loss" among them, and its gradients, added over parts of a batch and devices."""
        variables = objective.variables(self.model)
        moving = {id(item) for item in variables}
        state = [item for item in self.model.variables if id(item) not in moving]
        sums: dict[str, Sum] = {}
        grads: list[Tensor] = []
        for number, part in enumerate(split(batch, self.settings.accumulate)):
            context = Context(True, seed + np.int32(number), current().gradient)
            loss = partial(_loss, objective, self.model, part, context)
            (_, found), gradients = current().gradients(loss, variables, state)
            sums = found if not sums else {name: _added(sums[name], found[name]) for name in sums}
            grads = gradients if not grads else [ops.add(a, b) for a, b in zip(grads, gradients, strict=True)]
        found, added = current().summed((sums, grads))
        return found, added


def asked_to_stop(batch: Batch) -> tuple[Batch, Logs]:
    """A batch without its mark, and of a marked one how many rows are of processes that were asked to stop."""
    rest = dict(batch)
    if STOPPING not in rest:
        return rest, {}
    return rest, {STOPPING: ops.sum(rest.pop(STOPPING))}


def _loss(objective: Objective, model: keras.Model, batch: Batch, context: Context) -> tuple[Tensor, dict[str, Sum]]:
    total, weight, extras = objective.loss(model, batch, context)
    return total, {"loss": (total, weight), **extras}


def _added(one: Sum, other: Sum) -> Sum:
    return one[0] + other[0], one[1] + other[1]


def split(batch: Batch, parts: int) -> list[Batch]:
    """A batch in equal parts, dealt out in turns: each device has as many rows of one part as of another."""
    if parts <= 1:
        return [batch] * parts
    dealt = {name: ops.reshape(value, (-1, parts, *value.shape[1:])) for name, value in batch.items()}
    return [{name: value[:, part] for name, value in dealt.items()} for part in range(parts)]


def means(sums: Mapping[str, Sum]) -> Logs:
    """Totals divided by weights."""
    return {name: total / safe(weight) for name, (total, weight) in sums.items()}


def safe(weight: Tensor) -> Tensor:
    """A weight that can be divided by: where nothing counts, the total is 0 too."""
    return ops.where(weight > 0, weight, ops.ones_like(weight))


def global_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Root of the sum of all squares."""
    return ops.sqrt(sum(ops.sum(ops.square(ops.cast(item, "float32"))) for item in tensors))


def clipped(grads: Sequence[Tensor], norm: Tensor, limit: float) -> list[Tensor]:
    """Gradients scaled down to a global norm of `limit`; 0 leaves them as they are."""
    if not limit:
        return list(grads)
    scale = limit / ops.maximum(norm, limit)
    return [grad * scale for grad in grads]


def make_optimiser(settings: TrainSettings, name: str) -> keras.optimizers.Optimizer:
    """The optimiser that the settings ask for; its learning rate is set anew in each step."""
    kind = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[settings.optimiser]
    own = {"weight_decay": settings.weight_decay} if settings.optimiser == "adamw" else {}
    return kind(
        learning_rate=settings.learning_rate, beta_1=settings.beta1, beta_2=settings.beta2, epsilon=settings.epsilon,
        name=f"{settings.optimiser}_{name}", **own,
    )  # fmt: skip


def exclude_from_decay(optimiser: keras.optimizers.Optimizer, variables: Sequence[Any]) -> None:
    """Biases and the scales of normalisation do not decay: pulling them to 0 would only make the model wrong."""
    small = [item for item in variables if len(item.shape) < 2]
    if small:
        optimiser.exclude_from_weight_decay(var_list=small)
