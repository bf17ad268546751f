"""Where the processes of a run meet before they compute: who is missing is told by name, and so is who differs.

The first process waits at the coordinator's address; the others call there and say who they are and what they were
asked to do. When all have come, they look whether they see one folder, and each is told the same. Only then the
backend connects them by its own means, which abort a process, or wait for ever, where one is missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from media.storage import cannot_write
from schemas.documents import parse_json
from schemas.errors import InputError, Interrupted, MachineError, StrettoError, UsageError, error_of
from trainer.devices import Processes, address_of
from trainer.stopping import Stopping
from trainer.telling import tell

_LONGEST = 1 << 16
_MOST_SAID = 4000
_SECONDS_BETWEEN_CALLS = 0.2
_SECONDS_TO_ANSWER = 10.0
_SECONDS_TO_DISMISS = 30.0
_SECONDS_TO_SEE = 10.0
"""How long a file that another machine has written may take to be seen in a folder of a network."""
_MARK = ".meeting-"


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


def meet(
    processes: Processes, seconds: float, asked: Asked, stop: Stopping | None = None, folder: str | None = None
) -> None:
    """Waits until all processes of a run are there, were asked the same and see the same folder, where one is given.

    Raises:
        Interrupted: a process did not come in time, or went away, and is named; or this one was asked to stop.
        UsageError: a process was asked something else than the first one, or sees another folder; it is named.
        MachineError: the first process cannot write into the folder.
        StrettoError: the first process cannot begin, for a reason of its own, whose exit code this error has.
        Dismissed: the first process says that there is nothing to do.
    """
    if processes.count == 1 or not processes.meeting:
        return
    until = Patience(seconds, stop)
    come = _wait if processes.is_chief else _call
    _heed(come(processes, until, asked, folder), processes, seconds, folder)


def _heed(answer: Mapping[str, Any], processes: Processes, seconds: float, folder: str | None) -> None:
    """Raises what the first process has found, as `meet` says; nothing where all is well."""
    if reason := answer.get("dismissed"):
        raise Dismissed(str(reason))
    if reason := answer.get("refused"):
        raise error_of(int(answer["code"]), f"process 0 of {processes.count} cannot begin: {reason}")
    if others := answer.get("others"):
        raise UsageError(
            f"process {_and(others)} was asked to train something else than process 0, or with another number of "
            "processes, or sees other checkpoints: give all the same settings, the same data and one folder for all"
        )
    if missing := answer.get("missing"):
        raise Interrupted(
            f"process {_and(missing)} of {processes.count} did not come to {processes.meeting} within {seconds:g} s. "
            "Start all with the same command, each with its own number (--process-id, or the index in TF_CONFIG); "
            "--join-seconds waits longer."
        )
    if gone := answer.get("gone"):
        raise Interrupted(
            f"process {_and(gone)} of {processes.count} went away again while all looked for the run's folder. "
            "Start all again with the same command."
        )
    if blind := answer.get("blind"):
        raise UsageError(
            f"process {_and(blind)} of {processes.count} does not see what process 0 wrote into the run's folder "
            f"({folder} for this process): the folder must be one that all of them see. "
            "Give all an --output in a folder that their machines share."
        )


def dismiss(processes: Processes, seconds: float, reason: str) -> None:
    """What the first process does instead, where there is nothing to do: says so to those who come in time.

    Raises UsageError where it cannot wait for them at its address.
    """
    _send_away(processes, seconds, {"dismissed": reason})


def refuse(processes: Processes, seconds: float, error: StrettoError) -> None:
    """What the first process does instead, where it cannot begin: tells why to those who come in time.

    Raises nothing of its own, so that the first process ends with what it could not do.
    """
    if processes.count == 1 or not processes.meeting:
        return
    patience = min(seconds, _SECONDS_TO_DISMISS)
    tell(f"process 0 cannot begin; for up to {patience:g} s it waits to tell the other processes why (Ctrl-C: not)")
    # Where its address is taken, or cannot be, nobody can be told.
    with contextlib.suppress(StrettoError, OSError, KeyboardInterrupt):
        _send_away(processes, patience, _refusal(error))


def _refusal(error: StrettoError) -> dict[str, Any]:
    return {"refused": str(error)[:_MOST_SAID], "code": error.exit_code}


def _send_away(processes: Processes, seconds: float, answer: Mapping[str, Any]) -> None:
    if not processes.meeting:
        return
    with _listening(processes) as server:
        _answer(_gathered(server, processes, Patience(min(seconds, _SECONDS_TO_DISMISS), None)), answer)


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


def _wait(processes: Processes, until: Patience, asked: Asked, folder: str | None) -> dict[str, Any]:
    """What all are told, once all have come or the time is over."""
    with _listening(processes) as server:
        tell(f"waiting at {processes.meeting} for {processes.count - 1} more processes")
        came = _gathered(server, processes, until)
        answer = {
            "missing": [number for number in range(1, processes.count) if number not in came],
            "others": [number for number, (_, theirs) in sorted(came.items()) if theirs != asked],
        }
        if folder is not None and not any(answer.values()):
            answer = _compared(came, folder)
        _answer(came, answer)
    return answer


def _compared(came: Came, folder: str) -> dict[str, Any]:
    """Who does not see what this process writes into the run's folder, and who went away; or why it cannot write."""
    try:
        with _marked(folder) as name:
            for connection, _ in came.values():
                _say(connection, {"look": name})
            said = {number: _seen(connection) for number, (connection, _) in sorted(came.items())}
    except MachineError as error:
        return _refusal(error)
    return {kind: [number for number, sees in said.items() if sees == kind] for kind in ("gone", "blind")}


def _seen(connection: socket.socket) -> str:
    connection.settimeout(_SECONDS_TO_SEE + _SECONDS_TO_ANSWER)
    if (said := _read(connection)) is None:
        return "gone"
    return "sees" if said.get("sees") is True else "blind"


@contextmanager
def _marked(folder: str) -> Iterator[str]:
    """A file in the folder, for a while. Raises MachineError where it cannot be written.

    Its name is new each time: what was looked for in vain once may be remembered as missing by a folder of a network.
    """
    name = f"{_MARK}{secrets.token_hex(8)}"
    path = os.path.join(folder, name)
    try:
        for old in filter(lambda entry: entry.startswith(_MARK), os.listdir(folder)):  # of one that was killed
            os.remove(os.path.join(folder, old))
        with open(path, "x", encoding="utf-8"):
            pass
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield name
    finally:
        with contextlib.suppress(OSError):
            os.remove(path)


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


def _call(processes: Processes, until: Patience, asked: Asked, folder: str | None) -> dict[str, Any]:
    """What the first process says to all. Once it has heard of this one, it is it that runs out of patience."""
    while until.left():
        with contextlib.suppress(OSError):
            connection = socket.create_connection(address_of(processes.meeting), timeout=_SECONDS_TO_ANSWER)
            with connection:
                _say(connection, {"process": processes.number, **asdict(asked)})
                answer = _read(connection, until)
                if answer and (name := answer.get("look")):
                    _say(connection, {"sees": folder is not None and _sees(folder, str(name), until)})
                    answer = _read(connection, until)
                if answer:
                    return answer
        time.sleep(_SECONDS_BETWEEN_CALLS)
    return {"missing": [0]}


def _sees(folder: str, name: str, until: Patience) -> bool:
    """Whether a file is in the folder, or comes to be seen there within some seconds."""
    end = time.monotonic() + _SECONDS_TO_SEE
    while name not in _names(folder):
        if time.monotonic() > end:
            return False
        until.left()  # raises where this process is to stop
        time.sleep(_SECONDS_BETWEEN_CALLS)
    return True


def _names(folder: str) -> list[str]:
    with contextlib.suppress(OSError):
        # Opening the folder above makes NFS ask again for a folder that this process has found missing before.
        os.scandir(os.path.dirname(os.path.abspath(folder))).close()
        return os.listdir(folder)
    return []


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
