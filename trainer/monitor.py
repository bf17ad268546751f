"""TensorBoard on a run: its curves, what the model saw at step 0, and what it plays."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

from schemas.errors import MachineError, MissingExtra, UsageError
from schemas.settings import setting

RELOAD_SECONDS = 5


@dataclass(frozen=True)
class Monitor:
    """Where TensorBoard listens."""

    port: int = setting(6006, help="port of the web page; 0 takes any free one")
    host: str = setting("localhost", help="address to listen on; 0.0.0.0 lets other machines in")

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(f"--port {self.port}: a port is 0..65535")


def monitor(run: str, settings: Monitor) -> int:
    """Starts TensorBoard, prints its address and waits until Ctrl-C; returns 0.

    Raises:
        UsageError: the folder is no run.
        MachineError: the port is taken, or tensorboard is not installed.
    """
    url = launch(logs_of(run), settings)
    print(f"TensorBoard: {url}   (Ctrl-C ends it)", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("TensorBoard ended", flush=True)
    return 0


def logs_of(run: str) -> str:
    """The folder of event files of a run. Raises UsageError where there is none."""
    folder = os.path.join(run, "tensorboard")
    if not os.path.isdir(run):
        raise UsageError(f"{run}: no such folder. Give the folder that was --output of `stretto train`.")
    if not os.path.isdir(folder):
        raise UsageError(
            f"{run}: not a run ({folder} is missing). Give the folder that was --output of `stretto train`."
        )
    return folder


def launch(folder: str, settings: Monitor) -> str:
    """Starts the server in a thread of its own; returns its address."""
    program = _program()
    server = program.TensorBoard()
    # One word each and a whole path, so that no name of a folder is taken for an option, a home or an address.
    server.configure(argv=[
        "tensorboard", f"--logdir={os.path.abspath(folder)}", f"--port={settings.port}", f"--host={settings.host}",
        f"--reload_interval={RELOAD_SECONDS}", "--load_fast=false", "--samples_per_plugin=images=100,audio=100",
    ])  # fmt: skip
    try:
        return str(server.launch())
    except program.TensorBoardPortInUseError as error:
        raise MachineError(
            f"port {settings.port} is taken. Choose another with --port, or any free one with --port 0."
        ) from error
    except program.TensorBoardServerException as error:
        raise MachineError(f"TensorBoard does not start on {settings.host}:{settings.port}: {error}") from error


def _program() -> Any:
    try:
        from tensorboard import program
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "tensorboard":
            raise
        raise MissingExtra("tensorboard", "trainer") from error
    return program
