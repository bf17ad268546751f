"""JAX: how a function is differentiated, compiled and saved. The functions are described in the package.

Keras variables hold state, compiled functions may not. A `StatelessScope` stands in between: inside it variables are
what the function was given, and assignments are collected and handed out.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import keras
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from schemas.errors import Interrupted, UsageError
from trainer.backends.layout import divided_axis
from trainer.devices import AXES, Mesh, Processes

Tensor = Any
Array = np.ndarray[Any, Any]
_LOST = re.compile(
    r"^(UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED)|heartbeat|closed by peer|reset by peer|"
    r"connection (reset|closed|refused)|broken pipe|timed out waiting|ncclRemoteError",
    re.IGNORECASE,
)
"""What XLA, gloo and NCCL say of a process that is gone; of other faults of theirs the text is shown."""


def prepare(deterministic: bool, mesh: Mesh | None = None, processes: Processes | None = None) -> None:
    """Makes operations repeat their bits on GPUs where asked for, elsewhere they do; a CPU becomes several devices.

    The latter only where the mesh asks for several: to try one, not to be faster.
    """
    if mesh and (devices := max(1, mesh.data) * mesh.model) > 1:
        count = processes.count if processes else 1
        jax.config.update("jax_num_cpu_devices", max(1, devices // count))
    if deterministic:
        # Read once, when the first device is asked for: asking first whether there is a GPU would be too late.
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"


class Devices:
    """The devices of a run, over all its processes: a mesh whose axes are copies of the model and parts of a copy.

    JAX computes on the mesh as on one device: a sum over the batch is one over all devices, by itself.

    Attributes:
        mesh: how they are laid out.
        processes: the processes of the run.
        count: how many devices there are in all.
        kind: "cpu", "gpu" or "tpu".
        capability: compute capability of the first GPU; None where there is none, or it does not tell.
    """

    def __init__(self, mesh: Mesh | None = None, processes: Processes | None = None) -> None:
        self.processes = processes or Processes()
        self.mesh = (mesh or Mesh(1)).fitted(jax.device_count())
        self.count, self.kind = self.mesh.data * self.mesh.model, jax.devices()[0].platform
        self.capability = _capability(jax.devices()[0])
        self._mesh = None
        if self.count > 1:
            grid = np.array(self._chosen()).reshape(self.mesh.data, self.mesh.model)
            self._mesh = jax.sharding.Mesh(grid, AXES)

    def _chosen(self) -> list[Any]:
        """As many devices of each process, process after process: each reads the rows of its own copies."""
        share = self.count // self.processes.count
        found = [
            device
            for number in range(self.processes.count)
            for device in [one for one in jax.devices() if one.process_index == number][:share]
        ]
        if len(found) != self.count:
            raise UsageError(
                f"--mesh {self.mesh}: asks for {share} devices of each of {self.processes.count} processes, and one "
                "has fewer. Type a smaller mesh."
            )
        return found

    def scope(self) -> AbstractContextManager[Any]:
        """Where the model and its optimisers are built and given values, before `place` lays them out.

        A divided model may be larger than a device, so it begins in the memory of the host.
        """
        return jax.default_device(_host()) if self.mesh.model > 1 else nullcontext()

    def place(self, variables: Sequence[Any]) -> None:
        """Lays the variables out over the mesh, as they are."""
        if self._mesh is None:
            return
        for variable in variables:
            variable.assign(jax.device_put(variable.value, self._sharding(variable)))

    def _sharding(self, variable: Any) -> NamedSharding:
        shape = tuple(variable.shape)
        axis = divided_axis(variable.path, shape, self.mesh.model) if self.mesh.model > 1 else None
        spec = [None] * len(shape)
        return NamedSharding(self._mesh, PartitionSpec(*(AXES[1] if at == axis else None for at, _ in enumerate(spec))))

    def batch(self, rows: Mapping[str, Array]) -> Mapping[str, Any]:
        """This process's rows of a batch, {name: [row, ...]}, as the compiled step takes the whole."""
        if self._mesh is None:
            return rows
        sharding = NamedSharding(self._mesh, PartitionSpec(AXES[0]))
        return {name: jax.make_array_from_process_local_data(sharding, value) for name, value in rows.items()}

    def compile_step(self, fn: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
        """`fn(batch, *scalars)` compiled, the variables donated to it and taken back; what it assigns stays."""
        variables = list(variables)

        def pure(state: list[Any], *arrays: Any) -> tuple[list[Any], Any]:
            with keras.StatelessScope(list(zip(variables, state, strict=True))) as scope:
                out = fn(*arrays)
            return [scope.get_current_value(variable) for variable in variables], out

        places: Any = None
        if self._mesh is not None:
            places = ([self._sharding(variable) for variable in variables], NamedSharding(self._mesh, PartitionSpec()))
        compiled = jax.jit(pure, donate_argnums=0, out_shardings=places)

        def call(*arrays: Any) -> Any:
            state, out = compiled([variable.value for variable in variables], *arrays)
            for variable, value in zip(variables, state, strict=True):
                variable.assign(value)
            return out

        call.compilations, call.jitted = compiled._cache_size, compiled
        return call

    def compile_sums(self, model: keras.Model, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn(batch)` -> sums over the whole batch, compiled; it only reads the model."""
        return compile_function(model, fn)


def _host() -> Any:
    """The host as a device; None, for the device that is usual, where JAX_PLATFORMS leaves it out."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def _capability(device: Any) -> float | None:
    text = str(getattr(device, "compute_capability", ""))
    return float(text) if text.replace(".", "", 1).isdecimal() else None


def summed(tree: Any) -> Any:
    """Inside a compiled step: sums over one device's examples as sums over those of all devices. Here they are."""
    return tree


def apply(optimiser: Any, grads: Sequence[Tensor], variables: Sequence[Any]) -> None:
    """Inside a compiled step: moves variables by gradients that are sums over all devices already."""
    optimiser.apply(grads, variables)


def replica() -> int:
    """Inside a compiled step: the number of this copy of the model, where each copy runs the step by itself."""
    return 0


def compile_function(model: keras.Model, fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` compiled with the model's variables as arguments, so that they are no constants of it.

    What it returns is whole on every device, so that every process can read it.
    """
    variables = list(model.variables)

    def pure(state: list[Any], *arrays: Any) -> Any:
        with keras.StatelessScope(list(zip(variables, state, strict=True))):
            return fn(*arrays)

    compiled = None

    def call(*arrays: Any) -> Any:
        nonlocal compiled
        if compiled is None:
            compiled = jax.jit(pure, out_shardings=_whole(variables))
        return compiled([variable.value for variable in variables], *arrays)

    return call


def _whole(variables: Sequence[Any]) -> NamedSharding | None:
    """A copy on each device of the mesh that the variables are on, None where they are on one device."""
    places = {variable.value.sharding for variable in variables}
    mesh = next((place.mesh for place in places if isinstance(place, NamedSharding)), None)
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


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


def recomputed(fn: Callable[..., Tensor], variables: Sequence[Any], *inputs: Tensor) -> Tensor:
    """Inside a step: `fn(*inputs)`, whose inner values are computed again for the gradient instead of kept.

    `variables` are all that `fn` reads; what it assigns to those that do not train (seeds, averages) stays.
    """
    variables = list(variables)

    def pure(values: list[Any], *arrays: Any) -> tuple[Tensor, list[Any]]:
        with keras.StatelessScope(list(zip(variables, values, strict=True))) as scope:
            out = fn(*arrays)
        return out, [scope.get_current_value(item) for item in variables if not item.trainable]

    out, after = jax.checkpoint(pure)([item.value for item in variables], *inputs)
    for item, value in zip([item for item in variables if not item.trainable], after, strict=True):
        item.assign(value)
    return out


def join(processes: Processes, seconds: int) -> None:
    """Meets the other processes of a run, before anything is asked of a device."""
    if processes.count == 1:
        return
    # Its own answer to SIGTERM would take the place of ours.
    jax.config.update("jax_enable_preemption_service", False)
    where = (processes.meeting, processes.count, processes.number) if processes.meeting else ()
    try:
        jax.distributed.initialize(*where, initialization_timeout=seconds)
    except (RuntimeError, ValueError) as error:
        raise Interrupted(f"the {processes.count} processes of this run could not be connected: {error}") from error
    if (jax.process_count(), jax.process_index()) != (processes.count, processes.number):
        raise UsageError(
            f"JAX finds process {jax.process_index()} of {jax.process_count()}, but this is said to be "
            f"{processes.number} of {processes.count}: give --coordinator, --processes and --process-id"
        )


def same_everywhere(text: str) -> bool:
    """Whether every process of a run says the same; all of them must ask."""
    from jax.experimental import multihost_utils

    own = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.int32)
    return bool((multihost_utils.process_allgather(own).reshape(-1, own.size) == own).all())


def whole(array: Any) -> Array:
    """An array that may lie on devices of several processes, as NumPy, put together on the host.

    Every process has all parts of one copy of the model (`check_batch`), so none has to ask another. Raises ValueError
    where that is not so.
    """
    if not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    parts = {str(shard.index): shard for shard in array.addressable_shards}.values()
    if sum(shard.data.size for shard in parts) < array.size:
        raise ValueError(f"{array.shape}: lies divided over several processes")
    found = np.empty(array.shape, array.dtype)
    for shard in parts:
        found[shard.index] = shard.data
    return found


def has_fused_attention() -> bool:
    """Whether attention without a bias may be one kernel: cuDNN's, in bfloat16; else it is computed in parts."""
    return jax.default_backend() == "gpu"


def is_lost_peer(error: Exception) -> bool:
    """Whether an error of a step, where several processes compute it, says that another one is gone."""
    return isinstance(error, jax.errors.JaxRuntimeError) and _LOST.search(str(error)) is not None


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that the device has no room."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def start_profile(folder: str) -> None:
    """Begins to write down what devices and host do."""
    jax.profiler.start_trace(folder)


def stop_profile() -> None:
    """Ends that, and writes it under plugins/profile."""
    jax.profiler.stop_trace()


def peak_memory() -> int:
    """Most bytes that were in use on the first device, 0 where it does not tell."""
    return int((jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0))


def values(variables: Sequence[Any]) -> list[Array]:
    """Copies of the variables, in order: the next step takes the memory that they lie in now."""
    return [np.array(whole(variable.value)) for variable in variables]


def restore(variables: Sequence[Any], arrays: Sequence[Any]) -> None:
    """Assigns arrays to variables, in order."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
