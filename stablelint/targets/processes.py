"""Trees of processes: which there are, how much memory they use, how they end, and whether this one may fork."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>
#: Device files of accelerators: who has one open has a driver's state, which a fork cannot use.
_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri", "/dev/accel")
_REAP_SECONDS = 5.0


def descendants(pid: int) -> list[int]:
    """The children of a process, their children and so on; without what has been adopted by another process."""
    found: list[int] = []
    todo = [pid]
    while todo:
        children = _children(todo.pop())
        found += children
        todo += children
    return found


def kill(pids: Iterable[int]) -> None:
    """Kill processes; those that are gone are passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def memory(pid: int, enough: int) -> int:
    """Bytes that a process and its descendants use together.

    Forked processes share pages: these are counted once, which takes milliseconds, where the sum over all is over
    ``enough``. Below, that sum is the answer.
    """
    pids = [pid, *descendants(pid)]
    total = sum(map(_resident, pids))
    return total if total <= enough else sum(map(_proportional, pids))


def may_fork() -> bool:
    """Whether a fork of this process is as good as a new one: nothing but this thread, and no accelerator's driver."""
    if not sys.platform.startswith("linux") or not hasattr(os, "pidfd_open"):
        return False
    try:
        opened = [_target(each) for each in Path("/proc/self/fd").iterdir()]
        return len(list(Path("/proc/self/task").iterdir())) == 1 and not any(
            file.startswith(_DEVICES) for file in opened
        )
    except OSError:
        return False


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none is lost."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """End as soon as ``parent``, which forked this process, does; at once if it has already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def reap() -> None:
    """Kill all descendants of this process and wait for their end."""
    until = time.monotonic() + _REAP_SECONDS
    while time.monotonic() < until:  # what waits for a broken device cannot be killed
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            kill(descendants(os.getpid()))
            time.sleep(0.002)


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _children(pid: int) -> list[int]:
    folder = f"/proc/{pid}/task"
    try:
        texts = [_read(f"{folder}/{thread}/children") for thread in os.listdir(folder)]  # noqa: PTH208
    except FileNotFoundError:
        return [] if sys.platform.startswith("linux") and not Path(f"/proc/{pid}").exists() else _slow_children(pid)
    except OSError:  # it ended just now
        return []
    return [int(word) for text in texts for word in text.split()]


def _slow_children(pid: int) -> list[int]:
    """The same where the kernel keeps no list."""
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def _resident(pid: int) -> int:
    try:
        return int(_read(f"/proc/{pid}/statm").split()[1]) * _PAGE
    except OSError:
        return _slow_resident(pid)


def _slow_resident(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _proportional(pid: int) -> int:
    """Resident bytes, of each page that n processes share one n-th."""
    try:
        lines = _read(f"/proc/{pid}/smaps_rollup").splitlines()
    except OSError:
        return _resident(pid)
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:  # noqa: PTH123 (a Path for each of these costs more than the reading)
        return file.read()


def _target(link: Path) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115
    except OSError:
        return ""
