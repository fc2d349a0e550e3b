"""Running user code in another process: a time limit, a memory limit, and its prints kept to itself.

Generic: it knows nothing of targets or rules. A job is the dotted path of a generator function and a payload that can
be pickled; what the generator yields in the child comes out of :meth:`Worker.run` in the parent, as it comes.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import psutil

from stablelint.errors import StablelintError, WorkerDied, WorkerError, WorkerMemory, WorkerTimeout
from stablelint.targets.processes import descendants, kill, memory

_POLL_SECONDS = 0.2
_START_SECONDS = 300.0  # importing torch from a cold disk on a busy machine
_LEAVE_SECONDS = 2.0  # from the last event of a job to its end
_END_SECONDS = 10.0  # killing a job and all that it started
_CAPTURED_BYTES = 16 << 20  # a file that prints for ever must not fill the disk
_LAST_LINES = 3
_GIB = 1 << 30
_ROOT = str(Path(__file__).resolve().parents[2])
# -P keeps the working directory off sys.path while we start: a user's random.py must not replace Python's.
# Ours comes first until it is found, so that the child runs the same stablelint as we do, and then last.
_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv[1]); import stablelint; sys.path.append(sys.path.pop(0)); "
    "from stablelint.targets.child import main; main(list(sys.argv))"
)


@dataclass
class _Server:
    """The child that starts a process for each job, or is itself the process of one where it cannot ``fork``."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    channel: Connection
    folder: str
    forks: bool = True


class Worker:
    """A process of its own for each job, forked from a child that is replaced when it dies.

    ``timeout`` is the number of seconds that may pass without an event of the job; ``memory`` the number of GiB that
    the child and all that runs below it may use together (None: nine tenths of what is available now). ``preload``
    names modules that the child imports, and as ``module:function`` functions that it calls, before the first clock
    starts; jobs find them done. Each job has a folder for temporary files (``TMPDIR``), which goes with it.
    """

    def __init__(
        self, *, timeout: float | None = None, memory: float | None = None, preload: Sequence[str] = ("torch",)
    ) -> None:
        self.timeout = timeout
        self.memory = memory if memory is not None else 0.9 * psutil.virtual_memory().available / _GIB
        self.preload = tuple(preload)
        self._server: _Server | None = None
        self._events: Connection | None = None
        self._captured: IO[bytes] | None = None
        self._looked = 0.0
        self._jobs = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, job: str, payload: Any = None) -> Iterator[Any]:
        """Yield the events of one job.

        Raises WorkerDied, WorkerTimeout or WorkerMemory when its process ended, what the job raised when that is a
        StablelintError, and WorkerError for anything else that the job raised. When the caller stops early the process
        is killed, for its job would go on. In every case nothing that the job started is left when this returns.
        """
        finished = False
        try:
            self._begin(job, payload)
            while True:
                kind, value = self._next(self.timeout)
                if kind == "event":
                    yield value
                    continue
                finished = True
                if self._ended(_LEAVE_SECONDS) is None:
                    self._stop()
                if kind == "done":
                    return
                if isinstance(value, StablelintError):
                    raise value
                raise WorkerError(f"the check itself failed: {value}")
        finally:
            if not finished:
                self._stop()

    def close(self) -> None:
        """Kill the child and everything that it and its jobs started."""
        self._give_up()
        if self._captured is not None:
            self._captured.close()
            self._captured = None

    def captured(self) -> str:
        """What the last job has written to its stdout and stderr so far (at most the last 64 KiB)."""
        if self._captured is None:
            return ""
        size = os.fstat(self._captured.fileno()).st_size
        start = max(0, size - (64 << 10))
        return os.pread(self._captured.fileno(), size - start, start).decode(errors="replace")

    def _begin(self, job: str, payload: Any) -> None:
        """Hand a job to the child, with a pipe for its events and a file for its prints."""
        self._start()
        assert self._server is not None
        self._jobs += 1
        data = pickle.dumps((self._jobs, job, payload))
        read, write = os.pipe()
        self._events = Connection(read, writable=False)
        output = self._capture()
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(self._server.control, [b"j"], [write, output])
                self._server.channel.send_bytes(data)
        finally:
            os.close(write)
            os.close(output)

    def _start(self) -> None:
        if self._server is not None and self._server.process.poll() is None:
            return
        self.close()
        ours, theirs = socket.socketpair()
        folder = tempfile.mkdtemp(prefix="stablelint-")
        output = self._capture()
        command = [sys.executable, "-P", "-c", _BOOTSTRAP, _ROOT, str(theirs.fileno()), folder, *self.preload]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"},
            )
        except BaseException:
            ours.close()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            theirs.close()
            os.close(output)
        self._server = _Server(process, ours, Connection(os.dup(ours.fileno())), folder)
        try:
            _, self._server.forks = self._next(_START_SECONDS)
        except BaseException:
            self.close()
            raise

    def _capture(self) -> int:
        """A new file for prints, which has no name any more; the end to write to."""
        if self._captured is not None:
            self._captured.close()
        fd, path = tempfile.mkstemp(prefix="stablelint-")
        output = os.open(path, os.O_WRONLY | os.O_APPEND)  # append: the file can be truncated under the writer
        os.unlink(path)  # noqa: PTH108
        self._captured = os.fdopen(fd, "rb", buffering=0)
        return output

    def _next(self, timeout: float | None) -> tuple[str, Any]:
        """The next event of the job, or the first word of a child that starts; raises when there will be none."""
        assert self._server is not None
        channel = self._server.channel
        events = channel if self._events is None else self._events
        began = time.monotonic()
        while True:
            ready = wait({channel, events}, _POLL_SECONDS)
            self._look_after()
            if ready and events.poll(0):
                try:
                    message: tuple[str, Any] = events.recv()
                except (EOFError, OSError):
                    raise self._died() from None
                return message
            if ready:
                raise self._died()
            if timeout is not None and time.monotonic() - began > timeout:
                self._stop()
                raise WorkerTimeout(f"stopped: it did not finish within {timeout:g} s")

    def _died(self) -> WorkerDied:
        code = self._ended(_LEAVE_SECONDS)
        if code is None:
            self._stop()
        lines = [line.strip() for line in self.captured().splitlines() if line.strip()][-_LAST_LINES:]
        said = f"; its last words: {' | '.join(lines)[-400:]}" if lines else ""
        if code is not None and code < 0:
            how = f"was killed by {_signal_name(-code)}"
            how += " (the system may have run out of memory)" if code == -signal.SIGKILL else ""
        else:
            how = f"ended the process with exit code {code}" if code is not None else "closed its channel to us"
        return WorkerDied(f"it {how}{said}")

    def _ended(self, seconds: float) -> int | None:
        """Exit code of the job (minus the signal that killed it) if it ends within ``seconds``, else None.

        A child that ends with its job, or instead of it, is given up.
        """
        server = self._server
        if server is None:
            return None
        until = time.monotonic() + seconds
        try:
            while server.channel.poll(max(0.0, until - time.monotonic())):
                _, number, code = server.channel.recv()
                if number == self._jobs:
                    self._close_events()
                    return int(code)
            return None
        except (EOFError, OSError):
            pass
        try:
            ended = server.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
        self._give_up()
        return ended

    def _stop(self) -> None:
        """Kill the job and all that it started; the child lives on where it is another process."""
        if self._server is None or self._events is None:
            return
        if self._server.forks:
            with contextlib.suppress(OSError):
                self._server.control.send(b"s")
            if self._ended(_END_SECONDS) is not None:
                return
        self._give_up()

    def _give_up(self) -> None:
        """End the child; what the last job has written stays."""
        server, self._server = self._server, None
        if server is not None:
            _kill_tree(server.process)
            server.control.close()
            server.channel.close()
            shutil.rmtree(server.folder, ignore_errors=True)
        self._close_events()

    def _close_events(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    def _look_after(self) -> None:
        """Every fifth of a second, also while events come fast: the size of the captured output and of the memory."""
        assert self._captured is not None
        assert self._server is not None
        if time.monotonic() - self._looked < _POLL_SECONDS:
            return
        self._looked = time.monotonic()
        used = memory(self._server.process.pid, int(self.memory * _GIB)) / _GIB
        if used > self.memory:
            self._stop()
            raise WorkerMemory(f"stopped: it used {used:.1f} GiB of memory, the limit is {self.memory:.1f} GiB")
        if os.fstat(self._captured.fileno()).st_size > _CAPTURED_BYTES:
            os.ftruncate(self._captured.fileno(), 0)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill the child's process group, and descendants that have left it for a group of their own."""
    below = descendants(process.pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    kill(below)
    process.wait()
