"""Inputs are first read in a process of their own, which can be killed: a parser that crashes or hangs costs its input.

Each worker has one such process, started once and given one item after another; what comes back is a report, so that
no bulk crosses. An alarm of the system ends it where an item takes too long, in native code too; a limit on its memory
is set by itself. What it has read once is safe to be read again by the worker that writes the shard, which compares
the bytes first.

The conversation is JSON lines: the build, then "ready" back, then requests and answers. Nothing is pickled.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from beam_pipelines.clean import Refusal
from beam_pipelines.config import Build, build_to_json
from beam_pipelines.corpora.corpus import Item
from beam_pipelines.unforeseen import too_much_memory, unexpected
from media.storage import cannot_write
from schemas.errors import MachineError, StrettoError, error_of
from schemas.registry import resolve
from schemas.settings import from_json, to_json

WORK = {"survey": "beam_pipelines.survey:survey_item", "encode": "beam_pipelines.write:try_item"}
"""What can be asked: function(build, item, note, **details) -> JSON values; note(JSON values) is heard at once."""

_READY = b"ready\n"
KILLED = "killed"
_ENDING_SECONDS = 5.0
_START_SECONDS = 120.0
_SPARE_SECONDS = 30.0
"""How much longer than the alarm the asking side waits before it kills by itself."""
_ENDING_BYTES = 2000
_READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Answer:
    """What was found out about an item, or why not; and what was noted before that."""

    value: Any = None
    refusal: Refusal | None = None
    noted: dict[str, Any] = field(default_factory=dict)


class ReadingProcess:
    """The process that reads for one worker; close it at the end."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._process: subprocess.Popen[bytes] | None = None
        self._heard = b""

    def ask(self, what: str, item: Item, **details: Any) -> Answer:
        """What `WORK` finds out about an item, or its refusal where its process died of it.

        Raises:
            StrettoError: it cannot be found out for any item (an extra is missing), or no process starts.
        """
        answer = Answer()
        request = json.dumps({"do": what, "item": asdict(item), **details}).encode() + b"\n"
        for _ in range(2):
            answer = self._ask_once(item, request)
            # Killed from outside (for lack of memory on this machine, or by a person): the item may be innocent.
            if answer.refusal is None or answer.refusal.reason != KILLED:
                break
        return answer

    def _ask_once(self, item: Item, request: bytes) -> Answer:
        process, noted = self._process or self._start(), {}
        line = self._answer(process, request, 2 * self._build.item_seconds)
        while line:
            reply = json.loads(line)
            if "noted" not in reply:
                return _answer_of(reply, noted)
            noted = reply["noted"]
            line = self._line(process, 2 * self._build.item_seconds)
        return Answer(refusal=_refusal(item, self._build, self._ended()), noted=noted)

    def close(self) -> None:
        """Ends the process."""
        if self._process is None:
            return
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                # What a dead process did not take cannot be given any more.
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        # One that waits for a dead disk cannot even be killed; it must not keep its worker too.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_ENDING_SECONDS)
        self._process, self._heard = None, b""

    def _answer(self, process: subprocess.Popen[bytes], request: bytes, seconds: float) -> bytes:
        """The line that answers, b"" where the process died or said nothing in time."""
        assert process.stdin is not None
        try:
            process.stdin.write(request)
            process.stdin.flush()
        except BrokenPipeError:
            return b""
        return self._line(process, seconds)

    def _line(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        # Not the stream's own buffer: lines that have come would hide there from the wait for those to come.
        assert process.stdout is not None
        while b"\n" not in self._heard:
            if not _has_something(process.stdout, seconds + _SPARE_SECONDS):
                return b""
            more = os.read(process.stdout.fileno(), _READ_BYTES)
            if not more:
                return b""
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line + b"\n"

    def _ended(self) -> int:
        """How the process ended, as subprocess says it; one that lives on in silence is ended as by its alarm."""
        process = self._process
        assert process is not None
        try:
            code = process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            code = -signal.SIGALRM
        self.close()
        return code

    def _start(self) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(_command(), stdin=pipe, stdout=pipe, stderr=pipe, env=_environment())
        self._process = process
        line = self._answer(process, json.dumps(_description(self._build)).encode() + b"\n", _START_SECONDS)
        if line == _READY:
            return process
        process.kill()
        said = process.stderr.read()[-_ENDING_BYTES:] if process.stderr else b""
        self.close()
        last = said.decode(errors="replace").strip() or "it said nothing"
        raise MachineError(f"the process that reads inputs does not start ({last}). Try again.")


def _answer_of(reply: dict[str, Any], noted: dict[str, Any]) -> Answer:
    if "failed" in reply:
        raise error_of(reply["failed"], reply["message"])
    if "refused" in reply:
        return Answer(refusal=Refusal(**reply["refused"]), noted=noted)
    return Answer(reply["answer"], noted=noted)


def _refusal(item: Item, build: Build, code: int) -> Refusal:
    """What the end of its reader says of an item."""
    if code == -signal.SIGALRM:
        limit = f"--item-seconds {build.item_seconds:g}"
        message = f"{item.name}: not read within {limit}: its parser never ends, or its disk hangs"
        return Refusal("quarantined", "too-slow", message)
    if code == -signal.SIGKILL:
        message = f"{item.name}: the process that read it was killed from outside; is there too little memory?"
        return Refusal("quarantined", KILLED, f"{message} --retry-quarantined reads it again")
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    message = f"{item.name}: the process that read it ended with {how}; what it holds crashes its parser"
    return Refusal("quarantined", "crash", message)


def _has_something(stream: IO[bytes], seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def _command() -> list[str]:
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = f"import sys; sys.path[:0] = {[root, *sys.path]!r}; from beam_pipelines.reading_process import main; main()"
    # -P: modules are never looked for in the folder that the user stands in.
    return [sys.executable, "-P", "-c", code]


def _environment() -> dict[str, str]:
    # Threads of a linear algebra library would only take address space.
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _description(build: Build) -> dict[str, Any]:
    """The build as JSON, its classes by the names under which they can be imported."""
    parts = {name: getattr(build, name) for name in ("corpus", "representation")}
    classes = {name: f"{type(part).__module__}:{type(part).__qualname__}" for name, part in parts.items()}
    settings = {name: to_json(part) for name, part in parts.items()}
    return {"build": {**build_to_json(build), **settings}, "classes": classes}


def _described(values: dict[str, Any]) -> Build:
    parts = {
        name: from_json(resolve({name: path}, name, name), values["build"][name])
        for name, path in values["classes"].items()
    }
    return from_json(Build, {**values["build"], **parts})


# === In the process itself ===


def main() -> None:
    """Answers requests until there are no more."""
    # What native code prints must not come between the answers; what Ctrl-C means is the asking side's business.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    build = _described(json.loads(sys.stdin.buffer.readline()))
    _limit_memory(build.item_megabytes << 20)
    answers.write(_READY)
    answers.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.dup2(2, 1)

    def say(**reply: Any) -> None:
        answers.write(json.dumps(reply).encode() + b"\n")
        answers.flush()

    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_REAL, build.item_seconds)
        reply = _reply(build, lambda values: say(noted=values), **json.loads(line))
        signal.setitimer(signal.ITIMER_REAL, 0)
        say(**reply)


def _reply(build: Build, note: Callable[..., None], do: str, item: dict[str, Any], **details: Any) -> dict[str, Any]:
    """The answer to a request; an item's refusal; or an error that is the fault of no item."""
    try:
        return {"answer": resolve(WORK, do, "request")(build, Item(**item), note, **details)}
    except StrettoError as error:
        return {"failed": error.exit_code, "message": str(error)}
    except OSError as error:
        failure = cannot_write(str(error.filename or "a working file"), error)
        return {"failed": failure.exit_code, "message": str(failure)}
    except MemoryError:
        return {"refused": asdict(too_much_memory(item["name"], build.item_megabytes))}
    except Exception as error:  # noqa: BLE001  whatever it is, it costs one input and is told with its place
        return {"refused": asdict(unexpected(item["name"], error))}


def _limit_memory(size: int) -> None:
    """Lets this process grow by so many bytes from where it is; no file of its memory is left behind by a crash."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return  # elsewhere the system does not hold to this limit
    with open("/proc/self/status", encoding="ascii") as file:
        data = next(int(line.split()[1]) << 10 for line in file if line.startswith("VmData:"))
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = data + size if hard == resource.RLIM_INFINITY else min(hard, data + size)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
