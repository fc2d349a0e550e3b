"""What user code cannot reach from the process that runs it. The guard stays: each test has a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stablelint.targets.worker import Worker

START = """
import os, pathlib, socket, sys, tempfile
scratch = pathlib.Path(tempfile.mkdtemp(dir=sys.argv[1]))
from stablelint.targets import guard
guard.settle(scratch)
def refused(kind, action):
    try:
        action()
    except kind as error:
        print(type(error).__name__, error)
    else:
        sys.exit("nothing was refused")
"""


def run(code: str, folder: Path) -> str:
    """What a guarded process prints, whose working directory is ``folder``."""
    (folder / "scratch").mkdir()
    root = str(Path(__file__).resolve().parents[2])
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {root!r})\n{START}{code}",
        str(folder / "scratch"),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "action",
    [
        "open('new.txt', 'w')",
        "open('there.txt', 'a')",
        "open('there.txt', 'r+')",
        "os.open('new.txt', os.O_CREAT)",
        "pathlib.Path('new.txt').touch()",
        "os.mkdir('new')",
        "os.makedirs('new/deep', exist_ok=True)",
        "os.rename('there.txt', 'moved.txt')",
        "os.rename('there.txt', scratch / 'moved.txt')",
        "os.remove('there.txt')",
        "os.rmdir('folder')",
        "os.symlink('there.txt', 'link')",
        "__import__('shutil').rmtree('folder')",
        "__import__('sqlite3').connect('new.db')",
        "open(scratch / '..' / '..' / 'new.txt', 'w')",
    ],
)
def test_nothing_is_written_outside_of_the_scratch_folder(action: str, tmp_path: Path) -> None:
    (tmp_path / "there.txt").write_text("as it was")
    (tmp_path / "folder").mkdir()
    assert "PermissionError nothing is written during a check" in run(f"refused(OSError, lambda: {action})", tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "scratch", "there.txt"]
    assert (tmp_path / "there.txt").read_text() == "as it was"


def test_reading_and_the_scratch_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "there.txt").write_text("as it was")
    code = """
assert open("there.txt").read() == "as it was"
os.makedirs(os.getcwd(), exist_ok=True)
with tempfile.NamedTemporaryFile("w") as file:
    file.write("text")
    assert file.name.startswith(str(scratch))
(scratch / "a").mkdir()
(scratch / "a").rename(scratch / "b")
(scratch / "b").rmdir()
open(os.devnull, "w").write("text")
assert os.environ["MPLCONFIGDIR"].startswith(str(scratch))
import subprocess
assert subprocess.run([sys.executable, "-c", "print(3)"], capture_output=True, text=True).stdout == "3\\n"
"""
    run(code, tmp_path)


@pytest.mark.parametrize(
    "action",
    [
        "socket.create_connection(('192.0.2.1', 80))",
        "socket.create_connection(('example.com', 80))",
        "socket.getaddrinfo('example.com', 80)",
        "socket.socket().connect(('192.0.2.1', 80))",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 80))",
        "__import__('urllib.request').request.urlopen('http://example.com')",
    ],
)
def test_there_is_no_network(action: str, tmp_path: Path) -> None:
    said = run(f"import warnings; warnings.simplefilter('ignore')\nrefused(OSError, lambda: {action})", tmp_path)
    assert "there is no network during a check" in said


def test_this_machine_can_be_reached(tmp_path: Path) -> None:
    code = """
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).close()
socket.getaddrinfo("localhost", 80)
ours, theirs = socket.socketpair()
ours.send(b"x")
assert "HTTPS_PROXY" not in os.environ
"""
    run(code, tmp_path)


@pytest.mark.parametrize(
    "action",
    ["os.system('pip install absent')", "__import__('subprocess').run([sys.executable, '-m', 'pip', 'install', 'x'])"],
)
def test_nothing_is_installed(action: str, tmp_path: Path) -> None:
    assert "pip is not run" in run(f"refused(PermissionError, lambda: {action})", tmp_path)


def test_torch_saves_to_the_scratch_folder_only(tmp_path: Path) -> None:
    code = """
import torch
guard.settle(scratch)
refused(PermissionError, lambda: torch.save({}, "model.pt"))
torch.save({"x": 1}, scratch / "model.pt")
assert torch.load(scratch / "model.pt") == {"x": 1}
"""
    assert "model.pt stays as it is" in run(code, tmp_path)
    assert not (tmp_path / "model.pt").exists()


def test_a_process_that_did_not_ask_for_it_is_not_guarded(tmp_path: Path) -> None:
    from stablelint.targets import guard

    assert guard._scratch == ()
    (tmp_path / "new.txt").write_text("text")


def test_jobs_are_guarded_and_their_scratch_folder_goes_with_the_worker(
    user_folder: Path, write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
        import pathlib, tempfile
        def scribble(payload):
            pathlib.Path(tempfile.gettempdir(), "file.txt").write_text("text")
            yield tempfile.gettempdir()
            try:
                pathlib.Path("new.txt").write_text("text")
            except PermissionError as error:
                yield str(error)
        """
    write("elsewhere/jobs.py", source, imports=False)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(user_folder / "elsewhere"), os.environ.get("PYTHONPATH", "")])
    )
    with Worker(preload=()) as worker:  # its folder goes with it, that of the job with the job
        scratch, refused = worker.run("jobs:scribble")
    assert refused == "nothing is written during a check: new.txt stays as it is"
    assert not Path(scratch).exists()
    assert Path(scratch).is_relative_to(tempfile.gettempdir())
    assert not Path("new.txt").exists()
