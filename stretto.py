"""The command line: finds the subcommand, turns errors into exit codes, and imports nothing heavy before it must."""

try:  # importing takes a moment, in which somebody may press Ctrl-C
    import contextlib
    import errno
    import os
    import signal
    import sys
    import threading
    import traceback
    from collections.abc import Iterator, Sequence
    from importlib.metadata import version
    from typing import NoReturn, TextIO

    from commands import COMMANDS
    from schemas.errors import Interrupted, MachineError, StrettoError, UsageError
    from schemas.naming import readable
    from schemas.redaction import redacted_text
    from schemas.registry import check_name
except KeyboardInterrupt:
    raise SystemExit(130) from None

HELP = """\
usage: stretto COMMAND [arguments]

From a corpus of music to TFRecord shards, trained models, and music again.

prepare and look at data:
  doctor     is this machine able? what is missing, and what to type
  corpora    what can be prepared, with licence and where to get it
  prepare    a corpus becomes shards
  inspect    what is in a dataset
  verify     prove from the shards that a dataset is whole and does not leak

train and listen:
  train      train a named run on a dataset; typed again, it continues
  evaluate   score a run on a split
  sample     let a run make music: MIDI, WAV, piano-roll pictures
  export     a run's weights as safetensors, for others
  monitor    open TensorBoard on a run

stretto COMMAND --help says more about each. For example:
  stretto prepare music21-chorales --output chorales
  stretto train tiny-chorales --data chorales --output run
  stretto sample run --count 4 --output music

exit codes: 0 done; 1 internal error; 2 usage; 3 input unusable; 4 environment (extra, disk, lock);
5 verification failed; 6 training diverged; 75 interrupted with the state saved, run me again; 130 Ctrl-C
"""

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code; nothing but that and what is printed comes back."""
    words = list(sys.argv[1:] if words is None else words)
    for stream in (sys.stdout, sys.stderr):
        # A file's name may hold bytes that are no text; printing it must not be what fails.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with told_to_stop(words):
        code = outcome(words)
    if any(thread.name == "graph" for thread in threading.enumerate()):
        # A build that was stopped: its engine is still in native code, where ending Python would abort the process.
        end_at_once(code)
    return code


def end_at_once(code: int) -> NoReturn:
    """Ends the process without Python's own end."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


@contextlib.contextmanager
def told_to_stop(words: Sequence[str]) -> Iterator[None]:
    """Lets SIGTERM end with 75 what can be continued, from the first second; once at work, that minds it itself."""

    def stop(number: int, frame: object) -> None:
        # Not an exception: whatever is being imported might swallow it, and nothing has been begun that must be ended.
        with contextlib.suppress(OSError):
            os.write(sys.__stderr__.fileno(), b"stretto: told to stop; run the same command again\n")
        os._exit(Interrupted.exit_code)

    if words[:1] not in (["prepare"], ["train"]) or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def outcome(words: Sequence[str]) -> int:
    """Runs one command line; whatever it raises becomes a line on standard error and an exit code."""
    try:
        code = run(words)
        sys.stdout.flush()
        return code
    except SystemExit as request:
        return request.code if isinstance(request.code, int) else int(request.code is not None)
    except BrokenPipeError:
        nobody_reads(sys.stdout)
        return 141
    except KeyboardInterrupt:
        say("stretto: stopped by Ctrl-C")
        return 130
    except Exception as error:  # noqa: BLE001  the one place where any error becomes a line and an exit code
        return report(error, verbose=asks_for_traceback(words))


def run(words: Sequence[str]) -> int:
    """Finds the subcommand and runs it."""
    if not words or words[0] in ("--help", "-h", "help"):
        print(HELP, end="")
        return 0 if words else 2
    if words[0] == "--version":
        print(f"stretto {version('stretto')}")
        return 0
    if words[0].startswith("-"):
        raise UsageError(f"{words[0]} stands before the command: stretto COMMAND {words[0]} ... See: stretto --help")
    check_name(words[0], COMMANDS, "command")
    return COMMANDS[words[0]](words[1:])


def report(error: Exception, verbose: bool) -> int:
    """Prints what went wrong in one paragraph, and returns the exit code that scripts rely on."""
    known = as_known(error)
    if verbose:
        say(screened("".join(traceback.format_exception(error))).rstrip("\n"))
    if known is not None:
        say(f"stretto: {screened(str(known))}")
        return ended(known.exit_code, error)
    # An engine may hand on a worker's whole traceback as text; its last line says what happened.
    lines = str(error).strip().splitlines() or [""]
    said = lines[-1] if any(line.startswith("Traceback") for line in lines) else " ".join(lines)
    hint = "" if verbose else " (-v shows the traceback)"
    say(f"stretto: internal error: {type(error).__name__}: {screened(said)}{hint}")
    return ended(1, error)


def ended(code: int, error: Exception) -> int:
    """The exit code; an error that says so ends the process here, because Python's own end would wait for others."""
    if getattr(error, "at_once", False):
        end_at_once(code)
    return code


def screened(message: str) -> str:
    """A message that may be shown: no secret of the command line, and no name of a file that steers the terminal."""
    return "\n".join(map(readable, redacted_text(message).split("\n")))


def as_known(error: Exception) -> StrettoError | None:
    """The error as one a user can act on, or None where it is a fault of ours."""
    if isinstance(error, StrettoError):
        return error
    if isinstance(error, ModuleNotFoundError):
        from doctor import missing_extra

        return missing_extra(error.name or "")
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        where = f" while writing {error.filename}" if error.filename else ""
        return MachineError(f"the disk is full{where}. Free some space and type the same command again: it continues")
    if isinstance(error, OSError) and error.errno in FORBIDDEN and error.filename:
        return MachineError(f"{error.filename}: {error.strerror}. Check its permissions, or choose another place")
    return None


def say(message: str) -> None:
    """Prints on standard error; that nobody reads it any more (`2>&1 | tee`) changes no exit code."""
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError:
        nobody_reads(sys.stderr)


def nobody_reads(stream: TextIO) -> None:
    """What is left to do when nobody reads our output any more (`| head`): be silent, also while Python shuts down."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def asks_for_traceback(words: Sequence[str]) -> bool:
    """Whether -v was typed; asked of the words themselves, because parsing them may be what failed."""
    typed = words[: words.index("--")] if "--" in words else words
    return any(word in ("-v", "--verbose") for word in typed)


if __name__ == "__main__":
    raise SystemExit(main())
