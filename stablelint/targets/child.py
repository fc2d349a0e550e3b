"""The other end of :mod:`stablelint.targets.worker`: a server that forks a fresh process for each job.

The server imports what jobs need and runs none of the user's code; what a job does to its process ends with it. Where a
fork is not safe (see :func:`stablelint.targets.processes.may_fork`) the server runs one job itself and ends with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pickle
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from stablelint.errors import StablelintError, WorkerError
from stablelint.targets import guard
from stablelint.targets.processes import adopt_orphans, die_with, kill, may_fork, reap

#: Seconds between two looks at whether the parent is still there.
_WATCH_SECONDS = 1.0
#: The system shall end a job before its server, and both before any other process.
_SERVER_SCORE, _JOB_SCORE = "900", "1000"
#: First port and their number, below those that the system hands out; a prime step leads to each of them.
_MEETING_PORTS, _STEP = (15_000, 17_000), 7919


@dataclass(frozen=True)
class _Job:
    """What was asked for: the path of a generator function and its argument, and where its events and prints go."""

    number: int
    path: str
    payload: Any
    events: Connection
    output: int
    scratch: Path


def main(argv: list[str]) -> None:
    """Serve jobs; ``argv`` is [_, root, control fd, folder for scratch files, what to prepare...].

    What to prepare is the name of a module to import, or the path ``module:function`` of a function to call.
    """
    control, folder = socket.socket(fileno=int(argv[2])), Path(argv[3])
    control.set_inheritable(False)
    parent = os.getppid()
    sys.argv[:] = argv[:1]
    # Ctrl-C is the parent's to handle; a KeyboardInterrupt seen here was raised by the user's code.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _endangered(_SERVER_SCORE)
    _prepare(argv[4:])
    channel = Connection(os.dup(control.fileno()))
    forks = may_fork()
    channel.send(("ready", forks))
    if forks:
        adopt_orphans()
    while (job := _asked(control, channel, folder, parent)) is not None:
        if not forks:
            threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
            _run(job)
        server = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        process = os.fork()
        if process == 0:
            os.setsid()
            die_with(server)
            control.close()
            channel.close()
            _run(job)
        job.events.close()  # the parent shall see it when the job closes it
        os.close(job.output)
        code = _watched(process, control, parent)
        shutil.rmtree(job.scratch, ignore_errors=True)
        if code is None:
            break
        with contextlib.suppress(OSError):
            channel.send(("ended", job.number, code))
    # The parent removes the folder when it can; when it was killed, this is the last that knows of it.
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _prepare(paths: Sequence[str]) -> None:
    """Import what jobs need and keep it apart from what they make: the collector looks at none of it again."""
    gc.disable()
    # numpy's matrix library starts its threads when it is imported, and a process of several threads cannot fork.
    asked = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for path in paths:
        module, _, function = path.partition(":")
        loaded = importlib.import_module(module)
        if function:
            getattr(loaded, function)()
    del os.environ["OPENBLAS_NUM_THREADS"]
    if asked is not None:
        os.environ["OPENBLAS_NUM_THREADS"] = asked
    gc.freeze()


def _asked(control: socket.socket, channel: Connection, folder: Path, parent: int) -> _Job | None:
    """Wait for the next job; None when the parent is gone."""
    try:
        while True:
            while not select.select([control], [], [], _WATCH_SECONDS)[0]:
                if os.getppid() != parent:
                    return None
            word, files, _, _ = socket.recv_fds(control, 1, 2)
            if not word:
                return None
            if len(files) == 2:  # else it stops a job that has ended meanwhile
                break
        number, path, payload = channel.recv()
    except (EOFError, OSError):
        return None
    for file in files:
        os.set_inheritable(file, False)
    return _Job(number, path, payload, Connection(files[0], readable=False), files[1], folder / str(number))


def _watched(process: int, control: socket.socket, parent: int) -> int | None:
    """Wait for the end of a job and clear away what it started; its exit code, None when the parent is gone.

    A word of the parent meanwhile asks to stop the job.
    """
    there = True
    end = os.pidfd_open(process)
    try:
        listening = [control.fileno()]
        while end not in (ready := select.select([end, *listening], [], [], _WATCH_SECONDS)[0]):
            if ready:
                there = control.recv(1) != b""
                listening = []
            elif os.getppid() != parent:
                there = False
            if not there or not listening:
                kill([process])
    finally:
        os.close(end)
    _, status = os.waitpid(process, 0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
    reap()
    return os.waitstatus_to_exitcode(status) if there else None


def _run(job: _Job) -> None:
    """Run one job in this process, and end it."""
    for stream in (1, 2):
        os.dup2(job.output, stream)
    os.close(job.output)
    _endangered(_JOB_SCORE)
    gc.enable()
    try:
        _begin(job.scratch, job.number)
        _send(job.events, _serve(job))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        # Threads and exit handlers that user code left behind must not keep this process.
        os._exit(0)


def _begin(scratch: Path, number: int) -> None:
    """What is to be done in the process of a job before anything of the user's runs.

    ``scratch`` is an empty folder that is removed when the job has ended, ``number`` counts the jobs.
    """
    scratch.mkdir(parents=True)
    if "TORCHELASTIC_RUN_ID" in os.environ:  # these processes talk to others, on other machines too
        os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
    else:
        guard.settle(scratch)
    _move_meeting(number)


def _move_meeting(number: int) -> None:
    """Let each job of one of several processes (``torchrun``) meet those of the others at a port of its own.

    At the store of an earlier one stand the addresses of processes that have ended. All processes count alike.
    """
    size, port = os.environ.get("WORLD_SIZE", ""), os.environ.get("MASTER_PORT", "")
    if number > 1 and size.isdecimal() and int(size) > 1 and port.isdecimal():
        first, ports = _MEETING_PORTS
        os.environ["MASTER_PORT"] = str(first + (int(port) + _STEP * number) % ports)
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"  # that is at the old port


def _serve(job: _Job) -> tuple[str, Any]:
    """Run one job and send what it yields; returns the closing message."""
    try:
        module, _, function = job.path.partition(":")
        for event in getattr(importlib.import_module(module), function)(job.payload):
            _send(job.events, ("event", event))
    except StablelintError as error:
        return ("error", error)
    except KeyboardInterrupt:  # SIGINT is ignored here
        return ("error", WorkerError("stopped: its code raises KeyboardInterrupt"))
    except BaseException as error:
        traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return ("error", f"{text} (at {last.filename}:{last.lineno})")
    return ("done", None)


def _send(events: Connection, message: tuple[str, Any]) -> None:
    try:
        data = pickle.dumps(message)
    except Exception as error:
        raise WorkerError(f"the job yielded what cannot be sent: {error}") from error
    try:
        events.send_bytes(data)
    except OSError:  # the parent is gone
        os._exit(1)


def _endangered(score: str) -> None:
    """When the system runs out of memory before our parent notices, it shall end this process and no other."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(score)


def _die_with(parent: int) -> None:
    """A job in an endless loop would outlive a parent that was killed: watch for it."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os.killpg(0, signal.SIGKILL)
