"""ptrace(2), as much of it as the Linux engine needs."""

from __future__ import annotations

import ctypes
import os
import signal

_TRACEME_OPTIONS = {
    "EXITKILL": 0x0010_0000,  # who is traced ends with the tracer, whatever ends that
    "TRACESECCOMP": 0x80,
    "TRACEEXEC": 0x10,
    "TRACECLONE": 0x08,
    "TRACEVFORK": 0x04,
    "TRACEFORK": 0x02,
}
EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_SECCOMP = 1, 2, 3, 4, 7
WALL = 0x4000_0000
"""Option of wait4: threads too."""

_PEEKUSER, _CONT, _SETOPTIONS, _GETEVENTMSG, _GETSIGINFO = 3, 7, 0x4200, 0x4201, 0x4202
_RDI = 14 * 8  # offset in struct user: the first argument of a system call
_SI_CODE = 8
_SI_ADDR = 16  # offset in siginfo_t, of the signals of a fault
_SIGINFO_BYTES = 128

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def _call(request: int, tid: int, address: int, data: int) -> int:
    ctypes.set_errno(0)
    result = int(_libc.ptrace(request, tid, address, data))
    if result == -1 and (error := ctypes.get_errno()):
        raise OSError(error, os.strerror(error))
    return result


def set_options(tid: int) -> None:
    """Stop at marks, exec and new processes; die with the tracer."""
    _call(_SETOPTIONS, tid, 0, sum(_TRACEME_OPTIONS.values()))


def resume(tid: int, number: int = 0) -> None:
    """Let a thread go on, with signal ``number`` delivered to it."""
    try:
        _call(_CONT, tid, 0, number)
    except ProcessLookupError:
        return  # killed while it stood still; wait4 will tell


def first_argument(tid: int) -> int:
    """Of the system call that the thread is about to make."""
    buffer = ctypes.c_long()
    ctypes.set_errno(0)
    buffer.value = _call(_PEEKUSER, tid, _RDI, 0)
    return buffer.value & (1 << 64) - 1


def event_message(tid: int) -> int:
    """What came with an event: of a fork, the new thread's id."""
    message = ctypes.c_ulong()
    _call(_GETEVENTMSG, tid, 0, ctypes.addressof(message))
    return message.value


def pending(tid: int) -> tuple[int, int] | None:
    """Code and address (if it is of a fault) of the thread's pending signal; None: group-stop."""
    info = ctypes.create_string_buffer(_SIGINFO_BYTES)
    try:
        _call(_GETSIGINFO, tid, 0, ctypes.addressof(info))
    except OSError:
        return None
    code = int.from_bytes(info.raw[_SI_CODE : _SI_CODE + 4], "little", signed=True)
    return code, int.from_bytes(info.raw[_SI_ADDR : _SI_ADDR + 8], "little")


FAULTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE})
"""Signals with an address, when their code is that of a fault: 1 to ``SI_KERNEL`` - 1."""
SI_KERNEL = 0x80
CRASHES = frozenset(
    {
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGILL,
        signal.SIGFPE,
        signal.SIGABRT,
        signal.SIGTRAP,
        signal.SIGSYS,
    }
)
"""Signals by which a program that has gone wrong ends."""
