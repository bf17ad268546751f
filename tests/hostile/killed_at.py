"""Runs a function in a process of its own, and kills that before its n-th write below a folder, whoever makes it.

The process is watched with ptrace, because many writes are made by native threads that Python does not see. Linux on
x86-64 and on 64-bit ARM.
"""

import ctypes
import os
import signal
import struct

TRACEME, SYSCALL, SETOPTIONS, GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x100000  # mark system calls; follow fork, vfork and clone; end with the tracer
SYSTEM_CALL = signal.SIGTRAP | 0x80
ALL_THREADS = 0x40000000
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Numbers of system calls: open, openat; what names a path first, or second; what takes the handle of a file.
CALLS = {
    "x86_64": (2, 257, {76, 82, 83, 84, 86, 87}, {258, 263, 264, 265, 316}, {1, 18, 20, 74, 75, 77, 285, 296, 328}),
    "aarch64": (None, 56, {45}, {34, 35, 37, 38, 276}, {46, 47, 64, 66, 68, 70, 82, 83, 287}),
}

ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


def in_child(task, traced=False):
    """Runs a function in a forked process, so that no thread of one attack reaches the next. Returns its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        if traced:
            ptrace(TRACEME, 0, None, None)
            os.kill(os.getpid(), signal.SIGSTOP)
        task()
        code = 0
    finally:
        os._exit(code)


def ended_well(child):
    """Waits for a child, and says whether it ended without an error."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def killed_at(task, folder, number):
    """Runs a function and kills its process before the n-th write below the folder (an absolute path).

    Returns how many there were until then; fewer than `number` where the function ended of itself. Raises
    PermissionError where this machine does not let a process watch another one.
    """
    child = in_child(task, traced=True)
    os.waitpid(child, 0)
    if os.uname().machine not in CALLS or ptrace(SETOPTIONS, child, None, OPTIONS):
        os.kill(child, signal.SIGKILL)
        raise PermissionError(f"no ptrace here: {os.strerror(ctypes.get_errno())}")
    ptrace(SYSCALL, child, None, None)
    seen = 0
    while True:
        try:
            thread, status = os.waitpid(-1, ALL_THREADS)
        except ChildProcessError:
            return seen
        if not os.WIFSTOPPED(status):
            continue
        stop = os.WSTOPSIG(status)
        if stop == SYSTEM_CALL and is_write(thread, folder):
            seen += 1
            if seen == number:
                os.kill(child, signal.SIGKILL)
        ptrace(SYSCALL, thread, None, 0 if stop in (SYSTEM_CALL, signal.SIGTRAP, signal.SIGSTOP) else stop)


def is_write(thread, folder):
    """Whether a thread, stopped before a system call, is about to change something below the folder."""
    info = ctypes.create_string_buffer(88)
    if ptrace(GET_SYSCALL_INFO, thread, 88, ctypes.addressof(info)) < 0 or info.raw[0] != 1:
        return False
    call, *given = struct.unpack_from("<7Q", info.raw, 24)
    opens, opens_at, first, second, handle = CALLS[os.uname().machine]
    if call in handle:
        path = handle_path(thread, given[0])
    elif call in first or (call == opens and given[1] & WRITING):
        path = text_at(thread, given[0])
    elif call in second or (call == opens_at and given[2] & WRITING):
        path = os.path.join(handle_path(thread, given[0]), text_at(thread, given[1]))
    else:
        return False
    return path.startswith(f"{folder}/")


def handle_path(thread, handle):
    """The path of an open file, or of the folder that a path is relative to."""
    number = ctypes.c_int(handle).value
    try:
        return os.readlink(f"/proc/{thread}/cwd" if number == -100 else f"/proc/{thread}/fd/{number}")
    except OSError:
        return ""


def text_at(thread, address):
    """The text in a process's memory at an address."""
    with open(f"/proc/{thread}/mem", "rb", 0) as memory:
        memory.seek(address)
        text = memory.read(4096 - address % 4096)
        return (text if b"\0" in text else text + memory.read(4096)).split(b"\0")[0].decode("utf-8", "replace")
