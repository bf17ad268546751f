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
from trainer.stopping import Stopping
from trainer.telling import tell

_LONGEST = 1 << 16
_SECONDS_BETWEEN_CALLS = 0.2
_SECONDS_TO_ANSWER = 10.0
_SECONDS_TO_DISMISS = 30.0


@dataclass(frozen=True)
class Asked:
    """What one process was asked to do, and sees.

    Attributes:
        configuration: fingerprint of run, settings and data.
        step: of the newest whole checkpoint, -1 where there is none.
    """

    configuration: str
    step: int


Came = dict[int, tuple[socket.socket, Asked]]


class Dismissed(Exception):
    """The first process says that there is nothing to do."""


def meet(processes: Processes, seconds: float, asked: Asked, stop: Stopping | None = None) -> None:
    """Waits until all processes of a run are there and were asked the same.

    Raises:
        Interrupted: a process did not come in time, and is named; or this one was asked to stop meanwhile.
        UsageError: a process was asked something else than the first one; it is named.
        Dismissed: the first process says that there is nothing to do.
    """
    if processes.count == 1 or not processes.meeting:
        return
    until = Patience(seconds, stop)
    answer = _wait(processes, until, asked) if processes.is_chief else _call(processes, until, asked)
    if reason := answer.get("dismissed"):
        raise Dismissed(str(reason))
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


def dismiss(processes: Processes, seconds: float, reason: str) -> None:
    """What the first process does instead, where there is nothing to do: says so to those who come in time."""
    if not processes.meeting:
        return
    with _listening(processes) as server:
        came = _gathered(server, processes, Patience(min(seconds, _SECONDS_TO_DISMISS), None))
        _answer(came, {"dismissed": reason})


def _and(numbers: Sequence[int]) -> str:
    return ", ".join(str(int(number)) for number in numbers)


class Patience:
    """How long somebody waits: some seconds, a second at a time, and not past being asked to stop.

    Raises Interrupted from `left` then.
    """

    def __init__(self, seconds: float, stop: Stopping | None) -> None:
        self._until, self._stop = time.monotonic() + seconds, stop

    def left(self) -> float:
        """Seconds that may be waited before asking again, 0 where it is over."""
        if self._stop is not None and self._stop.requested:
            raise Interrupted("told to stop while waiting for the other processes: run the same command again")
        return max(0.0, min(1.0, self._until - time.monotonic()))


# === The first process ===


def _wait(processes: Processes, until: Patience, asked: Asked) -> dict[str, Any]:
    """What all are told, once all have come or the time is over."""
    with _listening(processes) as server:
        tell(f"waiting at {processes.meeting} for {processes.count - 1} more processes")
        came = _gathered(server, processes, until)
        answer = {
            "missing": [number for number in range(1, processes.count) if number not in came],
            "others": [number for number, (_, theirs) in sorted(came.items()) if theirs != asked],
        }
        _answer(came, answer)
    return answer


def _gathered(server: socket.socket, processes: Processes, until: Patience) -> Came:
    """Who has come when all have, or when the time is over."""
    came: Came = {}
    while len(came) < processes.count - 1 and (left := until.left()):
        server.settimeout(left)
        with contextlib.suppress(TimeoutError):
            _welcome(server.accept()[0], processes, came)
        for number in [number for number, (connection, _) in came.items() if _hung_up(connection)]:
            came.pop(number)[0].close()
    return came


def _hung_up(connection: socket.socket) -> bool:
    """Whether the other process went away again: it has nothing more to say, so only its end can be read."""
    connection.settimeout(0)
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(_SECONDS_TO_ANSWER)


def _welcome(connection: socket.socket, processes: Processes, came: Came) -> None:
    """Notes who calls; a stranger is sent away. Who calls again was started again: the first call is void."""
    connection.settimeout(_SECONDS_TO_ANSWER)
    found = _read(connection) or {}
    number, configuration, step = (found.get(key) for key in ("process", "configuration", "step"))
    ours = type(number) is int and 0 < number < processes.count
    if ours and isinstance(configuration, str) and type(step) is int:
        if number in came:
            came[number][0].close()
        came[number] = (connection, Asked(configuration, step))
    else:
        connection.close()


def _answer(came: Came, answer: Mapping[str, Any]) -> None:
    for connection, _ in came.values():
        _say(connection, answer)
        connection.close()


@contextmanager
def _listening(processes: Processes) -> Iterator[socket.socket]:
    try:
        host, port = address_of(processes.meeting, processes.said_by)
        server = socket.create_server(("", port), **_families(host))
    except OSError as error:
        raise UsageError(
            f"{processes.said_by}: cannot wait at {processes.meeting}: {error.strerror}. Choose another port."
        ) from error
    with server:
        yield server


def _families(host: str) -> dict[str, Any]:
    """Where one listens for those who call `host`: a name may mean an address of either kind to them."""
    both = not host.replace(".", "").isdecimal() and socket.has_dualstack_ipv6()
    return {"family": socket.AF_INET6 if both or ":" in host else socket.AF_INET, "dualstack_ipv6": both}


# === The others ===


def _call(processes: Processes, until: Patience, asked: Asked) -> dict[str, Any]:
    """What the first process says to all. Once it has heard of this one, it is it that runs out of patience."""
    while until.left():
        with contextlib.suppress(OSError):
            connection = socket.create_connection(address_of(processes.meeting), timeout=_SECONDS_TO_ANSWER)
            with connection:
                _say(connection, {"process": processes.number, **asdict(asked)})
                if answer := _read(connection, until):
                    return answer
        time.sleep(_SECONDS_BETWEEN_CALLS)
    return {"missing": [0]}


# === A line of JSON each way ===


def _say(connection: socket.socket, values: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # who is gone by now will be missed when the backend connects
        connection.sendall(json.dumps(values).encode() + b"\n")


def _read(connection: socket.socket, patience: Patience | None = None) -> dict[str, Any] | None:
    """What was said, None where it is nothing of ours. With patience, waits as long as the other is there."""
    data = b""
    try:
        while not data.endswith(b"\n") and len(data) < _LONGEST:
            if patience is not None:
                patience.left()
                connection.settimeout(1.0)
            try:
                part = connection.recv(4096)
            except TimeoutError:
                if patience is None:
                    return None
                continue
            if not part:
                return None
            data += part
        values = parse_json(data, "what a process said", depth=3)
    except (OSError, InputError):
        return None
    return values if isinstance(values, dict) else None
