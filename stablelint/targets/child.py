"""The other end of :mod:`stablelint.targets.worker`: runs jobs until its parent is gone."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pickle
import shutil
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from stablelint.errors import StablelintError, WorkerError
from stablelint.targets import guard


def main(argv: list[str]) -> None:
    """Serve jobs; ``argv`` is [_, root, job fd, event fd, scratch folder, modules to import first...]."""
    job_fd, event_fd = int(argv[2]), int(argv[3])
    for fd in (job_fd, event_fd):
        os.set_inheritable(fd, False)
    sys.argv[:] = argv[:1]
    # Ctrl-C is the parent's to handle; a KeyboardInterrupt seen here was raised by the user's code.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # When the system runs out of memory before our parent notices, it shall end this process and no other.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    threading.Thread(target=_die_with_parent, args=(os.getppid(), argv[4]), daemon=True).start()
    jobs, events = Connection(job_fd, writable=False), Connection(event_fd, readable=False)
    for name in argv[5:]:
        importlib.import_module(name)
    guard.settle(Path(argv[4]))
    events.send(("ready", None))
    while True:
        try:
            job, payload = jobs.recv()
        except (EOFError, OSError):
            break
        _send(events, _serve(events, job, payload))
        gc.collect()
    shutil.rmtree(argv[4], ignore_errors=True)
    # Threads and exit handlers that user code left behind must not keep this process.
    os._exit(0)


def _serve(events: Connection, job: str, payload: Any) -> tuple[str, Any]:
    """Run one job and send what it yields; returns the closing message."""
    try:
        module, _, function = job.partition(":")
        for event in getattr(importlib.import_module(module), function)(payload):
            _send(events, ("event", event))
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


def _die_with_parent(parent: int, scratch: str) -> None:
    """A child in an endless loop would outlive a parent that was killed: watch for it."""
    while os.getppid() == parent:
        time.sleep(1)
    shutil.rmtree(scratch, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)
