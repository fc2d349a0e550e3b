"""Files of a user in a folder of their own, and a process that is left as it was found."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stablelint.targets import loading
from stablelint.targets.imports import finder
from stablelint.targets.worker import Worker


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of the test; what importing user files changes in this process is undone."""
    path, argv, modules = list(sys.path), list(sys.argv), set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "_home", None)
    monkeypatch.setattr(loading, "_folders", ())
    yield tmp_path
    finder.remove()
    sys.path[:], sys.argv[:] = path, argv
    for name in set(sys.modules) - modules:
        module = sys.modules[name]
        # A folder without __init__.py is a module without a file; what it holds goes before it.
        places = [str(module.__dict__.get("__file__")), *getattr(module.__dict__.get("__path__"), "_path", ())]
        if any(place.startswith(str(tmp_path)) for place in places):
            del sys.modules[name]


@pytest.fixture
def write(user_folder: Path) -> Callable[..., str]:
    """``write(name, source)`` makes a file of the user (torch and nn are imported for it) and returns its name."""

    def write(name: str, source: str, *, imports: bool = True) -> str:
        path = user_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        head = "import torch\nfrom torch import nn\n" if imports else ""
        path.write_text(head + textwrap.dedent(source))
        return name

    return write


@pytest.fixture
def workers(
    write: Callable[..., str], user_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Callable[..., Worker]]]:
    """``workers(source)`` gives what makes workers that can import ``source`` as the module ``jobs``."""
    made: list[Worker] = []

    def make(**settings: object) -> Worker:
        made.append(Worker(**{"preload": (), **settings}))  # type: ignore[arg-type]
        return made[-1]

    def workers(source: str) -> Callable[..., Worker]:
        write("elsewhere/jobs.py", source, imports=False)
        monkeypatch.setenv("PYTHONPATH", str(user_folder / "elsewhere"))
        return make

    yield workers
    for worker in made:
        worker.close()


@pytest.fixture
def load(write: Callable[..., str]) -> Callable[[str], loading.Loaded]:
    """Writes ``model.py`` and loads it."""

    def load(source: str) -> loading.Loaded:
        loading.settle()
        return loading.load_file(Path(write("model.py", source)))

    return load
