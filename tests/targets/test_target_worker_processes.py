"""The processes of a worker: a fresh one for each job, and nothing of it is left."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from process_states import gone

from stablelint.errors import WorkerDied, WorkerMemory
from stablelint.targets.worker import Worker

JOBS = """
import os, signal, time

def whereabouts(payload):
    yield os.getpid(), os.getppid()

def make_temporary_files(payload):
    import tempfile
    yield tempfile.mkdtemp(), tempfile.mkstemp()[1], os.environ["TMPDIR"]
    if payload: os._exit(3)

def daemonise(payload):
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        daemon = os.fork()
        if daemon: os.write(write, str(daemon).encode())
        else: time.sleep(600)
        os._exit(0)
    yield int(os.read(read, 20))

def kill_the_parent(payload):
    yield os.getpid()
    os.kill(os.getppid(), signal.SIGKILL)
    while True: time.sleep(1)

def hold(payload):
    hoard = bytearray(b"x") * (150 << 20)
    yield len(hoard)
    time.sleep(0.5)
    yield len(hoard)

def fill(payload=None):
    global FILLED
    FILLED = bytearray(b"x") * (150 << 20)

def read_what_is_filled(payload):
    total = 0
    for start in range(0, len(FILLED), 4096): total += FILLED[start]
    yield total
    time.sleep(0.5)
    yield total

def begin_a_thread():
    import threading
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()

def loop(payload):
    yield os.getpid()
    while True: pass

def leave(payload):
    yield "before"
    os._exit(7)
"""


@pytest.fixture
def jobs(workers: Callable[[str], Callable[..., Worker]]) -> Callable[..., Worker]:
    """Makes workers that can import the module ``jobs`` above."""
    return workers(JOBS)


def test_where_a_fork_is_not_safe_each_job_has_a_new_process(jobs: Callable[..., Worker]) -> None:
    worker = jobs(preload=("jobs:begin_a_thread",), timeout=20)
    found = [next(iter(worker.run("jobs:whereabouts"))) for _ in range(2)]
    assert [parent for _, parent in found] == [os.getpid()] * 2
    assert found[0] != found[1]
    with pytest.raises(WorkerDied, match="exit code 7"):
        list(worker.run("jobs:leave"))
    run = worker.run("jobs:loop")
    pid = next(run)
    run.close()
    assert gone(pid)
    assert len(list(worker.run("jobs:whereabouts"))) == 1


@pytest.mark.parametrize("dies", [False, True])
def test_temporary_files_go_with_the_job(dies: bool, jobs: Callable[..., Worker]) -> None:
    worker, made = jobs(), list[str]()
    with pytest.raises(WorkerDied) if dies else nullcontext():
        for paths in worker.run("jobs:make_temporary_files", dies):
            made += paths
    assert len(made) == 3
    assert all(path.startswith(made[2]) for path in made)
    assert not any(Path(path).exists() for path in made)
    assert Path(made[2]).parent.exists()
    worker.close()
    assert not Path(made[2]).parent.exists()


def test_a_process_that_left_its_parents_ends_with_the_job(jobs: Callable[..., Worker]) -> None:
    (pid,) = jobs().run("jobs:daemonise")
    assert gone(pid)


def test_a_job_that_kills_its_server_ends_too(jobs: Callable[..., Worker]) -> None:
    worker = jobs()
    run = worker.run("jobs:kill_the_parent")
    pid = next(run)
    with pytest.raises(WorkerDied, match="it was killed by SIGKILL"):
        next(run)
    assert gone(pid)
    assert len(list(worker.run("jobs:whereabouts"))) == 1


def test_shared_memory_counts_once_and_the_jobs_own_counts(jobs: Callable[..., Worker]) -> None:
    worker = jobs(memory=0.25, preload=("jobs:fill",))
    assert len(list(worker.run("jobs:read_what_is_filled"))) == 2
    with pytest.raises(WorkerMemory):
        list(worker.run("jobs:hold"))
