"""TensorFlow: how a function is differentiated, compiled and saved. The functions are described in the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from schemas.errors import UsageError
from trainer.devices import Mesh, Processes

Tensor = Any
Array = np.ndarray[Any, Any]


def prepare(deterministic: bool, mesh: Mesh | None = None, processes: Processes | None = None) -> None:
    """Makes operations repeat their bits: on a CPU always, on accelerators where asked for; a CPU becomes several.

    The latter only where the mesh asks for several: to try one, not to be faster.
    """
    if mesh and mesh.data > 1 and not _has_gpu() and not (processes and processes.count > 1):
        first = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(first, [tf.config.LogicalDeviceConfiguration()] * mesh.data)
    if deterministic or not _has_gpu():
        tf.config.experimental.enable_op_determinism()


class Devices:
    """The devices of a run, over all its processes: each holds a whole model and computes its share of a batch.

    Inside a step every copy sees its own examples only; `summed` adds over the copies.

    Attributes:
        mesh: how many copies there are.
        processes: the processes of the run.
        count: how many devices there are in all.
        kind: "cpu" or "gpu".
        capability: compute capability of the first GPU; None where there is none, or it does not tell.
    """

    def __init__(self, mesh: Mesh | None = None, processes: Processes | None = None) -> None:
        self.processes, mesh = processes or Processes(), mesh or Mesh(1)
        if mesh.model > 1:
            raise UsageError(f"--mesh {mesh}: TensorFlow divides no model here. Type --backend jax, or model=1.")
        # Workers meet before anything else is asked of TensorFlow, even what devices there are.
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy() if self.processes.count > 1 else None
        names = [item.name for item in tf.config.list_logical_devices("GPU" if _has_gpu() else "CPU")]
        # Workers take all their GPUs, whatever they are told, and one CPU.
        there = self._strategy.num_replicas_in_sync if self._strategy else len(names)
        self.mesh = mesh.fitted(there)
        if self._strategy and self.mesh.data != there:
            raise UsageError(
                f"--mesh {mesh}: TensorFlow's workers use all {there} devices that they have. Type --mesh data={there}."
            )
        self.count, self.kind, self.capability = self.mesh.data, "gpu" if _has_gpu() else "cpu", _capability()
        if self.count > 1 and not self._strategy:
            self._strategy = tf.distribute.MirroredStrategy(names[: self.count])

    def scope(self) -> AbstractContextManager[Any]:
        """Where the model and its optimisers are built and given values."""
        return self._strategy.scope() if self._strategy else nullcontext()

    def place(self, variables: Sequence[Any]) -> None:
        """Nothing: where a variable was made there it is."""

    def batch(self, rows: Mapping[str, Array]) -> Any:
        """This process's rows of a batch, {name: [row, ...]}, as the compiled step takes the whole."""
        if not self._strategy:
            return rows
        copies = self.count // self.processes.count
        size = len(next(iter(rows.values()))) // copies

        def of_one(context: Any) -> dict[str, Tensor]:
            first = context.replica_id_in_sync_group % copies * size
            return {name: tf.constant(value[first : first + size]) for name, value in rows.items()}

        return self._strategy.experimental_distribute_values_from_function(of_one)

    def compile_step(self, fn: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
        """`fn(batch, *scalars)` as one graph; variables live in TensorFlow, so that assignments stay of themselves."""
        if not self._strategy:
            call = tf.function(fn, autograph=False, jit_compile=_has_gpu())
            call.compilations = call.experimental_get_tracing_count
            return call
        strategy = self._strategy
        graph = tf.function(lambda *arrays: strategy.run(fn, args=arrays), autograph=False)

        def run(*arrays: Any) -> Any:
            return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], graph(*arrays))

        run.compilations = graph.experimental_get_tracing_count
        return run

    def compile_sums(self, model: Any, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn(batch)` -> sums over the whole batch, compiled; it only reads the model."""
        return self.compile_step(lambda batch: summed(fn(batch)), ())


def summed(tree: Any) -> Any:
    """Inside a compiled step: float32 sums over one device's examples as sums over those of all devices.

    All in one vector: several collectives in flight at once can wait for each other for ever.
    """
    if tf.distribute.in_cross_replica_context() or tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return tree
    parts = [tf.convert_to_tensor(part) for part in tf.nest.flatten(tree)]
    flat = tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)
    whole = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, flat)
    pieces = tf.split(whole, [part.shape.num_elements() for part in parts])
    return tf.nest.pack_sequence_as(
        tree, [tf.reshape(one, part.shape) for one, part in zip(pieces, parts, strict=True)]
    )


def apply(optimiser: Any, grads: Sequence[Tensor], variables: Sequence[Any]) -> None:
    """Inside a compiled step: moves variables by gradients that are sums over all devices already."""
    # Keras would add them up over the copies of the model once more.
    optimiser._all_reduce_sum_gradients = list
    optimiser.apply(grads, variables)


def replica() -> Tensor | int:
    """Inside a compiled step: the number of this copy of the model."""
    context = tf.distribute.get_replica_context()
    return context.replica_id_in_sync_group if context else 0


def compile_function(model: Any, fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` as one graph; called again for other shapes it is compiled again."""
    return tf.function(fn, autograph=False, jit_compile=_has_gpu(), reduce_retracing=False)


def _capability() -> float | None:
    if not _has_gpu():
        return None
    found = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
    major, minor = found.get("compute_capability", (0, 0))
    return major + minor / 10 if major else None


def _has_gpu() -> bool:
    # Also whether functions are compiled by XLA: on a CPU that costs more than it brings.
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


def recomputed(fn: Callable[..., Tensor], variables: Sequence[Any], *inputs: Tensor) -> Tensor:
    """Inside a step: `fn(*inputs)`, whose inner values are computed again for the gradient instead of kept.

    `variables` are all that `fn` reads; what it assigns to those that do not train (seeds, averages) stays.
    """
    variables, count = list(variables), len(inputs)
    resting = [item for item in variables if not item.trainable]

    def pure(*tensors: Tensor) -> tuple[Tensor, ...]:
        values = [tf.cast(value, item.dtype) for item, value in zip(variables, tensors[count:], strict=True)]
        with keras.StatelessScope(list(zip(variables, values, strict=True))) as scope:
            out = fn(*tensors[:count])
        return (out, *(tf.cast(scope.get_current_value(item), tf.float64) for item in resting))

    # Seeds are integers, through which nothing can be differentiated; float64 holds every uint32.
    given = [tf.cast(item.value, item.dtype if item.trainable else tf.float64) for item in variables]
    out, *after = tf.recompute_grad(pure)(*inputs, *given)
    for item, value in zip(resting, after, strict=True):
        item.assign(tf.cast(value, item.dtype))
    return out


def join(processes: Processes, seconds: int) -> None:
    """Nothing: TensorFlow's workers meet where TF_CONFIG says."""


def same_everywhere(text: str) -> bool:
    """Whether every process of a run says the same: TensorFlow's workers have met and compared it before."""
    return True


def whole(array: Any) -> Array:
    """An array as NumPy; each copy of a model has all of it."""
    return np.asarray(array)


def has_fused_attention() -> bool:
    """Whether attention without a bias may be one kernel: Keras has none on TensorFlow."""
    return False


def is_lost_peer(error: Exception) -> bool:
    """Whether an error of a step, where several processes compute it, says that another one is gone."""
    return isinstance(error, (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError))


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that the device has no room."""
    return isinstance(error, tf.errors.ResourceExhaustedError)


def start_profile(folder: str) -> None:
    """Begins to write down what devices and host do."""
    tf.profiler.experimental.start(folder)


def stop_profile() -> None:
    """Ends that, and writes it under plugins/profile."""
    tf.profiler.experimental.stop()


def peak_memory() -> int:
    """Most bytes that were in use on the first device, 0 where it does not tell."""
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"]) if _has_gpu() else 0


def values(variables: Sequence[Any]) -> list[Array]:
    """Copies of the variables, in order: the next step writes into the memory that they lie in now."""
    return [np.array(variable.value) for variable in variables]


def restore(variables: Sequence[Any], arrays: Sequence[Any]) -> None:
    """Assigns arrays to variables, in order."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(np.asarray(array))
