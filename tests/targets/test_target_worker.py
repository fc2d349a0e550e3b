"""User code in a process of its own: whatever it does, the caller gets a typed outcome and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from process_states import gone

from stablelint.errors import UsageError, WorkerDied, WorkerError, WorkerMemory, WorkerTimeout
from stablelint.targets.worker import Worker

Write = Callable[..., str]

JOBS = """
import os, signal, subprocess, sys, time
from stablelint.errors import UsageError, StablelintError

def hello(payload):
    yield ("start", payload)
    print("noise on stdout"); print("noise on stderr", file=sys.stderr)
    yield ("result", os.getpid(), os.environ["PYTHONHASHSEED"], sys.stdin.read())

def whereabouts(payload):
    yield os.getpid(), os.getppid()

def leave(payload):
    yield "before"
    print("last words", file=sys.stderr)
    os._exit(7)

def crash(payload):
    yield "before"
    os.kill(os.getpid(), signal.SIGSEGV)

def loop(payload):
    yield os.getpid()
    while True: pass

def chatter(payload):
    yield "before"
    while True: print("x" * 1000)

def spawn(payload):
    yield subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True).pid
    while True: time.sleep(1)

def eat(payload):
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1 << 20) * 8))
        time.sleep(0.01)
        yield "more"

def refuse(payload):
    yield "before"
    raise UsageError("a sentence")

def fail(payload):
    yield "before"
    raise ZeroDivisionError("a bug of ours")

def interrupt(payload):
    yield "before"
    raise KeyboardInterrupt

def unsendable(payload):
    yield lambda: None

def close_everything(payload):
    yield "before"
    os.closerange(3, 256)
    while True: time.sleep(1)

def check(payload):
    from stablelint.targets.build import candidates
    from stablelint.targets.spec import expand
    for request in expand(payload):
        try:
            for candidate in candidates(request):
                yield ("ok", candidate.build().name)
        except StablelintError as error:
            yield ("failed", str(error))
"""


@pytest.fixture
def jobs(workers: Callable[[str], Callable[..., Worker]]) -> Callable[..., Worker]:
    """Makes workers that can import the module ``jobs`` above."""
    return workers(JOBS)


def test_events_come_as_they_are_made_and_prints_stay_inside(
    jobs: Callable[..., Worker], capfd: pytest.CaptureFixture[str]
) -> None:
    worker = jobs()
    start, (word, pid, seed, stdin) = worker.run("jobs:hello", 5)
    assert start == ("start", 5)
    assert (word, seed, stdin) == ("result", "0", "")
    assert pid != os.getpid()
    assert capfd.readouterr() == ("", "")
    assert worker.captured().split("\n")[:2] == ["noise on stdout", "noise on stderr"]


def test_each_job_has_a_process_of_its_own_and_all_are_forked_from_one(jobs: Callable[..., Worker]) -> None:
    worker = jobs()
    pids, parents = zip(*[next(iter(worker.run("jobs:whereabouts"))) for _ in range(3)], strict=True)
    assert len({*pids, *parents, os.getpid()}) == 5


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("leave", "it ended the process with exit code 7; its last words: last words"),
        ("crash", "it was killed by SIGSEGV"),
        ("close_everything", "it closed its channel to us|it was killed"),
    ],
)
def test_a_dead_worker_is_an_outcome_and_the_next_job_gets_a_new_one(
    job: str, words: str, jobs: Callable[..., Worker]
) -> None:
    worker, events = jobs(), []
    with pytest.raises(WorkerDied, match=words):
        events.extend(worker.run(f"jobs:{job}"))
    assert [event for event, *_ in worker.run("jobs:hello")] == ["start", "result"]


def test_a_loop_ends_at_the_time_limit_and_leaves_no_process(jobs: Callable[..., Worker]) -> None:
    worker = jobs(timeout=1.0)
    run = worker.run("jobs:loop")
    pid = next(run)
    with pytest.raises(WorkerTimeout, match="stopped: it did not finish within 1 s"):
        next(run)
    assert gone(pid)


def test_endless_prints_do_not_fill_the_disk(jobs: Callable[..., Worker]) -> None:
    worker = jobs(timeout=1.5)
    run = worker.run("jobs:chatter")
    next(run)
    with pytest.raises(WorkerTimeout):
        next(run)


def test_processes_that_user_code_started_end_with_it(jobs: Callable[..., Worker]) -> None:
    worker = jobs(timeout=0.5)
    run = worker.run("jobs:spawn")
    pid = next(run)
    with pytest.raises(WorkerTimeout):
        next(run)
    assert gone(pid)


def test_the_memory_limit_ends_it(jobs: Callable[..., Worker]) -> None:
    worker = jobs(memory=0.25, timeout=20)
    with pytest.raises(WorkerMemory, match=r"stopped: it used 0\.\d GiB of memory, the limit is 0\.2 GiB"):
        for _ in worker.run("jobs:eat"):
            pass


def test_what_a_job_raises_is_raised_here_and_the_worker_lives_on(jobs: Callable[..., Worker]) -> None:
    worker = jobs()
    ((_, server),) = worker.run("jobs:whereabouts")
    for job, kind, words in [
        ("refuse", UsageError, "^a sentence$"),
        ("fail", WorkerError, "the check itself failed: ZeroDivisionError: a bug of ours"),
        ("interrupt", WorkerError, "its code raises KeyboardInterrupt"),
        ("unsendable", WorkerError, "the job yielded what cannot be sent"),
    ]:
        with pytest.raises(kind, match=words):
            list(worker.run(f"jobs:{job}"))
    assert [parent for _, parent in worker.run("jobs:whereabouts")] == [server]


def test_a_caller_that_stops_early_leaves_no_process(jobs: Callable[..., Worker]) -> None:
    run = jobs().run("jobs:loop")
    pid = next(run)
    run.close()
    assert gone(pid)


def test_a_worker_whose_parent_is_killed_ends(jobs: Callable[..., Worker], user_folder: Path) -> None:
    code = (
        "import sys; from stablelint.targets.worker import Worker\n"
        "for pid in Worker(preload=()).run('jobs:loop'): print(pid, flush=True)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert gone(pid)


def test_ctrl_c_ends_the_worker(jobs: Callable[..., Worker]) -> None:
    code = (
        # a shell's background job ignores the signal
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from stablelint.targets.worker import Worker\n"
        "for pid in Worker(preload=()).run('jobs:loop'): print(pid, flush=True)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGINT)
    _, errors = parent.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors
    assert gone(pid)


def test_files_in_the_working_directory_do_not_replace_pythons_own(jobs: Callable[..., Worker], write: Write) -> None:
    write("pickle.py", "raise RuntimeError('the wrong pickle')\n", imports=False)
    assert len(list(jobs().run("jobs:hello"))) == 2


def test_misbehaving_files_do_not_hide_the_others(jobs: Callable[..., Worker], write: Write) -> None:
    good = "print('noise')\ndef build(): return nn.Linear(3, 3)\n"
    write("a.py", "class Net(nn.Module):\n    raise ValueError('bad file')\n")
    write("b.py", good)
    write("c.py", "import sys\nsys.exit(2)\n" + good)
    write("d.py", "def build():\n    exit()\n")
    write("e.py", "def build():\n    import os; os._exit(5)\n")
    write("f.py", "def build():\n    while True: pass\n")
    worker = jobs(preload=("torch", "stablelint.targets.build"))
    run = list(worker.run("jobs:check", ["a.py", "b.py", "c.py", "d.py", "b.py:build"]))
    assert run == [
        ("failed", "a.py defines no model: a.py:4 raises ValueError: bad file while it is imported"),
        ("ok", "b.py:build"),
        ("ok", "c.py:build"),
        ("failed", "d.py:4 calls sys.exit() while the model is built"),
        ("ok", "b.py:build"),
    ]
    worker.timeout = 2.0
    with pytest.raises(WorkerTimeout):
        list(worker.run("jobs:check", ["f.py"]))
    with pytest.raises(WorkerDied, match="exit code 5"):
        list(worker.run("jobs:check", ["e.py"]))
