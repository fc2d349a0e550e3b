"""Running user code in another process: a time limit, a memory limit, and its prints kept to itself.

Generic: it knows nothing of targets or rules. A job is the dotted path of a generator function and a payload that can
be pickled; what the generator yields in the child comes out of :meth:`Worker.run` in the parent, as it comes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import psutil

from stablelint.errors import StablelintError, WorkerDied, WorkerError, WorkerMemory, WorkerTimeout

_POLL_SECONDS = 0.2
_START_SECONDS = 300.0  # importing torch from a cold disk on a busy machine
_CAPTURED_BYTES = 16 << 20  # a file that prints for ever must not fill the disk
_LAST_LINES = 3
_GIB = 1 << 30
_ROOT = str(Path(__file__).resolve().parents[2])
# -P keeps the working directory off sys.path while we start: a user's random.py must not replace Python's.
_BOOTSTRAP = "import sys; sys.path.append(sys.argv[1]); from stablelint.targets.child import main; main(list(sys.argv))"


class Worker:
    """One child process for many jobs, replaced when it dies.

    ``timeout`` is the number of seconds that may pass without an event of the job; ``memory`` the number of GiB that
    the child and its own children may use together (None: nine tenths of what is available now). ``preload`` names
    modules that the child imports before the clock starts.
    """

    def __init__(
        self, *, timeout: float | None = None, memory: float | None = None, preload: Sequence[str] = ("torch",)
    ) -> None:
        self.timeout = timeout
        self.memory = memory if memory is not None else 0.9 * psutil.virtual_memory().available / _GIB
        self.preload = tuple(preload)
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs: Connection | None = None
        self._events: Connection | None = None
        self._captured: IO[bytes] | None = None
        self._looked = 0.0
        self._scratch: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, job: str, payload: Any = None) -> Iterator[Any]:
        """Yield the events of one job.

        Raises WorkerDied, WorkerTimeout or WorkerMemory when the child ended (the next run starts a new one), what
        the job raised when that is a StablelintError, and WorkerError for anything else that the job raised. When the
        caller stops early the child is killed, for its job would go on.
        """
        finished = False
        try:
            self._start()
            assert self._jobs is not None
            with contextlib.suppress(BrokenPipeError):
                self._jobs.send((job, payload))
            while True:
                kind, value = self._next(self.timeout)
                if kind == "event":
                    yield value
                    continue
                finished = True
                if kind == "done":
                    return
                if isinstance(value, StablelintError):
                    raise value
                raise WorkerError(f"the check itself failed: {value}")
        finally:
            if not finished:
                self.close()

    def close(self) -> None:
        """Kill the child and everything that it started."""
        process, self._process = self._process, None
        if process is not None:
            _kill_tree(process)
        for handle in (self._jobs, self._events, self._captured):
            if handle is not None:
                handle.close()
        self._jobs = self._events = self._captured = None
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)

    def captured(self) -> str:
        """What the child has written to its stdout and stderr so far (at most the last 64 KiB)."""
        if self._captured is None:
            return ""
        size = os.fstat(self._captured.fileno()).st_size
        start = max(0, size - (64 << 10))
        return os.pread(self._captured.fileno(), size - start, start).decode(errors="replace")

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        job_read, job_write = os.pipe()
        event_read, event_write = os.pipe()
        fd, path = tempfile.mkstemp(prefix="stablelint-")
        output = os.open(path, os.O_WRONLY | os.O_APPEND)  # append: the file can be truncated under the writer
        os.unlink(path)  # noqa: PTH108
        self._captured = os.fdopen(fd, "rb", buffering=0)
        self._scratch = tempfile.mkdtemp(prefix="stablelint-")
        fds = (str(job_read), str(event_write))
        command = [sys.executable, "-P", "-c", _BOOTSTRAP, _ROOT, *fds, self._scratch, *self.preload]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(job_read, event_write),
                start_new_session=True,
                env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"},
            )
        finally:
            for end in (job_read, event_write, output):
                os.close(end)
        self._jobs = Connection(job_write, readable=False)
        self._events = Connection(event_read, writable=False)
        self._next(_START_SECONDS)

    def _next(self, timeout: float | None) -> tuple[str, Any]:
        """The next message of the child; raises one of the outcomes when there will be none."""
        assert self._events is not None
        assert self._process is not None
        began = time.monotonic()
        while True:
            ended = self._process.poll() is not None
            self._look_after()
            if self._events.poll(0 if ended else _POLL_SECONDS):
                try:
                    message: tuple[str, Any] = self._events.recv()
                except (EOFError, OSError):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(5)
                    raise self._died() from None
                return message
            if ended:
                raise self._died()
            if timeout is not None and time.monotonic() - began > timeout:
                self.close()
                raise WorkerTimeout(f"stopped: it did not finish within {timeout:g} s")

    def _died(self) -> WorkerDied:
        assert self._process is not None
        code = self._process.poll()
        lines = [line.strip() for line in self.captured().splitlines() if line.strip()][-_LAST_LINES:]
        said = f"; its last words: {' | '.join(lines)[-400:]}" if lines else ""
        if code is not None and code < 0:
            how = f"was killed by {_signal_name(-code)}"
            how += " (the system may have run out of memory)" if code == -signal.SIGKILL else ""
        else:
            how = f"ended the process with exit code {code}" if code is not None else "closed its channel to us"
        self.close()
        return WorkerDied(f"it {how}{said}")

    def _look_after(self) -> None:
        """Every fifth of a second, also while events come fast: the size of the captured output and of the memory."""
        assert self._captured is not None
        assert self._process is not None
        if time.monotonic() - self._looked < _POLL_SECONDS:
            return
        self._looked = time.monotonic()
        used = _tree_rss(self._process.pid) / _GIB
        if used > self.memory:
            self.close()
            raise WorkerMemory(f"stopped: it used {used:.1f} GiB of memory, the limit is {self.memory:.1f} GiB")
        if os.fstat(self._captured.fileno()).st_size > _CAPTURED_BYTES:
            os.ftruncate(self._captured.fileno(), 0)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _tree_rss(pid: int) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += each.memory_info().rss
    return total


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill the child's process group, and descendants that have left it for a group of their own."""
    descendants: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        descendants = psutil.Process(process.pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for each in descendants:
        with contextlib.suppress(psutil.Error):
            each.kill()
    process.wait()
