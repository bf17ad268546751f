"""Where the processes of a run meet before they compute: who is missing is told by name, and so is who differs.

The first process waits at the coordinator's address; the others call there and say who they are and what they were
asked to do. When all have come, each is told the same. Only then the backend connects them by its own means, which
abort a process, or wait for ever, where one is missing.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from schemas.documents import parse_json
from schemas.errors import InputError, Interrupted, UsageError
from trainer.devices import Processes, address_of
from trainer.telling import tell

_LONGEST = 1 << 16
_SECONDS_BETWEEN_CALLS = 0.2
_SECONDS_TO_ANSWER = 10.0


@dataclass(frozen=True)
class Asked:
    """What one process was asked to do, and sees.

    Attributes:
        configuration: fingerprint of run, settings and data.
        step: of the newest whole checkpoint, -1 where there is none.
    """

    configuration: str
    step: int


def meet(processes: Processes, seconds: float, asked: Asked) -> None:
    """Waits until all processes of a run are there and were asked the same.

    Raises:
        Interrupted: a process did not come in time; it is named.
        UsageError: a process was asked something else than the first one; it is named.
    """
    if processes.count == 1 or not processes.meeting:
        return
    answer = (_wait if processes.is_chief else _call)(processes, seconds, asked)
    if missing := answer.get("missing"):
        raise Interrupted(
            f"process {_and(missing)} of {processes.count} did not come to {processes.meeting} within {seconds:g} s. "
            "Start all with the same command, each with its own number (--process-id, or the index in TF_CONFIG); "
            "--join-seconds waits longer."
        )
    if others := answer.get("others"):
        raise UsageError(
            f"process {_and(others)} was asked to train something else than process 0, or sees other checkpoints: give "
            "all the same settings, the same data and one folder that all of them see"
        )


def _and(numbers: Sequence[int]) -> str:
    return ", ".join(str(int(number)) for number in numbers)


# === The first process ===


def _wait(processes: Processes, seconds: float, asked: Asked) -> dict[str, Any]:
    """What all are told, once all have come or the time is over."""
    deadline, came = time.monotonic() + seconds, dict[int, tuple[socket.socket, Asked]]()
    with _listening(processes.meeting) as server:
        tell(f"waiting at {processes.meeting} for {processes.count - 1} more processes, {seconds:g} s at most")
        with contextlib.suppress(TimeoutError):
            while len(came) < processes.count - 1:
                server.settimeout(max(0.01, deadline - time.monotonic()))
                _welcome(server.accept()[0], processes, came)
        answer = {
            "missing": [number for number in range(1, processes.count) if number not in came],
            "others": [number for number, (_, theirs) in sorted(came.items()) if theirs != asked],
        }
        for connection, _ in came.values():
            _say(connection, answer)
            connection.close()
    return answer


def _welcome(connection: socket.socket, processes: Processes, came: dict[int, tuple[socket.socket, Asked]]) -> None:
    """Notes who calls; a stranger, or one who has called before, is sent away."""
    connection.settimeout(_SECONDS_TO_ANSWER)
    found = _read(connection) or {}
    number, configuration, step = (found.get(key) for key in ("process", "configuration", "step"))
    ours = type(number) is int and 0 < number < processes.count and number not in came
    if ours and isinstance(configuration, str) and type(step) is int:
        came[number] = (connection, Asked(configuration, step))
    else:
        connection.close()


@contextmanager
def _listening(address: str) -> Iterator[socket.socket]:
    try:
        server = socket.create_server(("", address_of(address)[1]))
    except OSError as error:
        raise UsageError(
            f"--coordinator {address}: cannot wait there: {error.strerror}. Choose another port."
        ) from error
    with server:
        yield server


# === The others ===


def _call(processes: Processes, seconds: float, asked: Asked) -> dict[str, Any]:
    """What the first process says to all."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            connection = socket.create_connection(address_of(processes.meeting), timeout=_SECONDS_TO_ANSWER)
            with connection:
                _say(connection, {"process": processes.number, **asdict(asked)})
                connection.settimeout(max(1.0, deadline - time.monotonic() + _SECONDS_TO_ANSWER))
                if answer := _read(connection):
                    return answer
        time.sleep(_SECONDS_BETWEEN_CALLS)
    return {"missing": [0]}


# === A line of JSON each way ===


def _say(connection: socket.socket, values: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # who is gone by now will be missed when the backend connects
        connection.sendall(json.dumps(values).encode() + b"\n")


def _read(connection: socket.socket) -> dict[str, Any] | None:
    """What was said, None where it is nothing of ours."""
    data = b""
    try:
        while not data.endswith(b"\n") and len(data) < _LONGEST:
            if not (part := connection.recv(4096)):
                return None
            data += part
        values = parse_json(data, "what a process said", depth=3)
    except (OSError, InputError):
        return None
    return values if isinstance(values, dict) else None
