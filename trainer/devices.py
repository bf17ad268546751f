"""How a training is launched: on which devices, by which processes; parsed and checked before anything heavy.

A run says how its devices are laid out (`--mesh data=4,model=2`); how many processes there are, and where they meet, is
said by flags, by TF_CONFIG on TensorFlow, or on JAX by the cluster that started them (SLURM, Open MPI, a TPU pod).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.documents import parse_json
from schemas.errors import InputError, UsageError
from schemas.settings import setting
from trainer.telling import tell

AXES = ("data", "model")
_MOST = 1 << 16
_CLUSTERS = {"SLURM_STEP_NUM_TASKS": "SLURM_PROCID", "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK"}
"""Variables that say how many processes a cluster started, and which this is. A script that SLURM runs once, before any
`srun`, has no step."""


@dataclass(frozen=True)
class Mesh:
    """How devices are laid out.

    Attributes:
        data: copies of the model, each with its share of the batch; 0 takes all devices there are.
        model: devices that share one copy's weights.
    """

    data: int = 0
    model: int = 1

    def __str__(self) -> str:
        return f"data={self.data},model={self.model}"

    def fitted(self, devices: int) -> Mesh:
        """This mesh over so many devices. Raises UsageError where they do not suffice, or do not divide."""
        if not self.data:
            if devices % self.model:
                raise UsageError(
                    f"--mesh model={self.model}: does not divide the {devices} devices that are there. "
                    f"Type --mesh data=N,model=M with N x M = {devices} or less."
                )
            return Mesh(devices // self.model, self.model)
        if self.data * self.model > devices:
            raise UsageError(
                f"--mesh {self}: asks for {self.data * self.model} devices, and there are {devices}. "
                f"Type --mesh data={max(1, devices // self.model)},model={min(self.model, devices)}, or less."
            )
        return self


def parse_mesh(text: str) -> Mesh:
    """`data=8,model=4` -> Mesh(8, 4); an axis that is not named is as in `Mesh()`. Raises ValueError for others."""
    found: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, _, count = part.partition("=")
        if name not in AXES or not count.isdecimal() or not 1 <= int(count) <= _MOST or name in found:
            raise ValueError(f"{part!r} is no axis: write data=N, model=N, or both with a comma, N at least 1")
        found[name] = int(count)
    return Mesh(**found)


@dataclass(frozen=True)
class Launch:
    """What one process is told when it is started: nothing of it is a property of the run."""

    coordinator: str = setting(
        "", help="where the processes of a run meet: the address of the first", metavar="HOST:PORT"
    )
    processes: int = setting(
        0, help="how many processes train together; 0: as TF_CONFIG (TensorFlow) or the cluster (JAX) says, else one"
    )
    process_id: int = setting(-1, help="which of them this is, from 0; the first one saves and reports")
    join_seconds: int = setting(300, help="how long processes wait for each other at the beginning")
    allow_cpu: bool = setting(False, help="train on the CPU although there is a GPU that the backend cannot use")

    profile: str = setting(
        "", help="steps, counted from 0, that are profiled for TensorBoard's profile plugin", metavar="FIRST:STOP"
    )

    def __post_init__(self) -> None:
        try:
            parse_steps(self.profile)
        except ValueError as error:
            raise UsageError(f"--profile {self.profile}: {error}") from error
        for name, least in (("processes", 0), ("process_id", -1), ("join_seconds", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be {max(0, least)} or more")
        given = {"--coordinator": self.coordinator, "--processes": self.processes, "--process-id": self.process_id >= 0}
        missing = [flag for flag, there in given.items() if not there]
        if self.processes != 1 and 0 < len(missing) < len(given):
            there = ", ".join(sorted(given.keys() - set(missing)))
            raise UsageError(f"{there} without {', '.join(missing)}: give all three to each process, or none")
        if self.processes and self.process_id >= self.processes:
            raise UsageError(
                f"--process-id {self.process_id}: with --processes {self.processes} it is 0..{self.processes - 1}"
            )
        if self.coordinator:
            address_of(self.coordinator)

    def check_profile(self, steps: int) -> None:
        """Raises UsageError for a profile that goes on after a run of so many steps has ended."""
        stop = parse_steps(self.profile)[1]
        if stop > steps:
            raise UsageError(
                f"--profile {self.profile}: the run has {steps} steps, counted from 0 to {steps - 1}. "
                f"Take at most {steps} for the last number, or more --steps."
            )


def parse_steps(text: str) -> tuple[int, int]:
    """`20:25` -> (20, 25): steps 20 to 24, counted from 0. Raises ValueError for anything else; "" is (0, 0)."""
    if not text:
        return 0, 0
    first, _, stop = text.partition(":")
    if not (first.isdecimal() and stop.isdecimal() and int(first) < int(stop)):
        raise ValueError(f"{text!r} are no steps: write FIRST:STOP, such as 20:25")
    return int(first), int(stop)


def address_of(text: str, said_by: str = "--coordinator") -> tuple[str, int]:
    """`host:1234` -> ("host", 1234), `[::1]:1234` -> ("::1", 1234).

    Raises UsageError for anything else, naming what said it.
    """
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not bare or set(bare) & set("[]") or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"{said_by}: {text!r} is no address: write HOST:PORT, such as 10.0.0.2:1234")
    if ":" in host and bare == host:
        raise UsageError(f"{said_by}: {text!r} may mean several addresses: write [{host}]:{port}")
    return bare, int(port)


@dataclass(frozen=True)
class Processes:
    """The processes of a run, and which one this is.

    Attributes:
        count: how many there are.
        number: this one's; 0 is the chief, who saves and reports.
        meeting: address where they meet, "" where the cluster's own means are used, or there is one process.
        said_by: what gave that address, for errors: where it can be changed.
    """

    count: int = 1
    number: int = 0
    meeting: str = ""
    said_by: str = field(default="--coordinator", compare=False)

    @property
    def is_chief(self) -> bool:
        """Whether this process saves and reports."""
        return self.number == 0

    def rows(self, batch: int) -> slice:
        """The rows of a global batch that this process reads."""
        share = batch // self.count
        return slice(self.number * share, (self.number + 1) * share)


def processes_of(launch: Launch, backend: str, environ: Mapping[str, str] = os.environ) -> Processes:
    """Who trains together: what flags say, else TF_CONFIG (TensorFlow) or the cluster (JAX), else this process alone.

    Raises:
        UsageError: TF_CONFIG is not what TensorFlow reads; or flags are given there, which do not name every worker.
    """
    if backend == "tensorflow":
        if launch.processes > 1:
            raise UsageError(
                f"--processes {launch.processes}: TensorFlow must know the address of every process. Say who they are "
                "in TF_CONFIG and leave the flags out, or type --backend jax."
            )
        return _of_tf_config(environ.get("TF_CONFIG", ""))
    if launch.processes:
        return Processes(launch.processes, max(0, launch.process_id), launch.coordinator)
    if environ.get("TF_CONFIG"):
        tell("TF_CONFIG says nothing to JAX: give --coordinator, --processes and --process-id to train with others")
    return _of_cluster(environ)


def _of_tf_config(text: str) -> Processes:
    workers, task = _read_tf_config(text) if text else ([], {})
    if not workers:
        return Processes()
    if task.get("type") != "worker" or type(task.get("index")) is not int or not 0 <= task["index"] < len(workers):
        raise UsageError(
            f"TF_CONFIG: task is {task}; each process needs type worker and an index 0..{len(workers) - 1}"
        )
    return Processes(len(workers), task["index"], workers[0], "TF_CONFIG")


def _read_tf_config(text: str) -> tuple[list[str], dict[str, Any]]:
    try:
        values = parse_json(text.encode(), "TF_CONFIG", depth=8)
    except InputError as error:
        raise UsageError(f"{error}. Write the JSON that TensorFlow reads, or unset it.") from error
    cluster = values.get("cluster", {}) if isinstance(values, dict) else None
    if not isinstance(cluster, dict) or set(cluster) - {"worker"}:
        raise UsageError(f"TF_CONFIG: cluster is {str(cluster)[:80]}; only workers train here, no chief and no ps")
    workers, task = cluster.get("worker", []), values.get("task", {})
    if (
        not isinstance(workers, list)
        or not all(isinstance(item, str) for item in workers)
        or not isinstance(task, dict)
    ):
        raise UsageError("TF_CONFIG: cluster.worker must be a list of addresses, and task a table")
    for worker in workers:
        address_of(worker, "TF_CONFIG")
    return workers, task


def _of_cluster(environ: Mapping[str, str]) -> Processes:
    """Only how many: which one this is, and where they meet, is for JAX to find out."""
    hosts = [host for host in environ.get("TPU_WORKER_HOSTNAMES", "").split(",") if host]
    if len(hosts) > 1:
        return Processes(len(hosts), _number(environ, "TPU_WORKER_ID"))
    for name, own in _CLUSTERS.items():
        if (count := _number(environ, name)) > 1:
            return Processes(count, _number(environ, own))
    return Processes()


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "0")
    if not text.isdecimal():
        raise UsageError(f"{name}={text!r}: must be a whole number. Unset it, or give --processes and --process-id.")
    return int(text)


def check_batch(batch: int, accumulate: int, mesh: Mesh, processes: Processes) -> None:
    """Raises UsageError unless each device, in each part of a batch, gets the same number of examples."""
    if mesh.data % processes.count:
        raise UsageError(
            f"--mesh {mesh}: {processes.count} processes need as many copies of the model each, and a copy must lie "
            f"within one process. Type a data=N that {processes.count} divides."
        )
    parts = mesh.data * accumulate
    if batch % parts:
        raise UsageError(
            f"--batch {batch}: does not divide among {mesh.data} copies of the model, --accumulate {accumulate}. "
            f"Type --batch {max(parts, batch // parts * parts)}, another multiple of {parts}, or another --mesh."
        )
