"""What is executed of a user's file, and what is left out."""

from __future__ import annotations

import inspect
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from stablelint.errors import BuildTargetError, ImportTargetError
from stablelint.targets.build import candidates
from stablelint.targets.imports import execution
from stablelint.targets.loading import Loaded, load_file, load_module, settle
from stablelint.targets.spec import Request

Write = Callable[..., str]

NET = """
class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.layer = nn.Linear(width, 2)
    def forward(self, x):
        return self.layer(x)
"""


def test_a_script_is_cut_down_to_what_its_definitions_need(load: Callable[[str], Loaded]) -> None:
    loaded = load(
        """
        import argparse
        ran = []
        def step(name):
            ran.append(name)
            return name
        WIDTH = 4
        SIZES = [WIDTH * 2]
        SIZES.append(step("mutates a needed name"))
        UNUSED = step("binds nothing needed")
        TABLE = {}
        for key in ("a", "b"):
            TABLE[key] = key
        class Net(nn.Module):
            sizes = SIZES
            table = TABLE
        def train():
            step("trains")
        step("is called for its effect")
        train()
        for epoch in range(3):
            step("loops")
        if __name__ == "__main__":
            step("is the script")
        """
    )
    assert loaded.module.ran == ["mutates a needed name"]
    assert loaded.module.Net.sizes == [8, "mutates a needed name"]
    assert loaded.module.Net.table == {"a": "a", "b": "b"}
    assert not hasattr(loaded.module, "UNUSED")
    assert loaded.left_out == ()


def test_a_statement_that_raises_is_left_out_and_remembered(load: Callable[[str], Loaded]) -> None:
    loaded = load(
        """
        data, size = open("absent.txt").read(), 3
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(len(data), size)
        class Broken(nn.Module):
            width = 1 / 0
        """
    )
    assert [(each.line, each.names) for each in loaded.left_out] == [(10, ("Broken",)), (4, ("data", "size"))]
    assert loaded.left_out[1].why.startswith("raises FileNotFoundError")
    assert loaded.left_out[0].file == loaded.module.__file__


def test_what_a_model_misses_is_the_reason_why_it_is_not_built(write: Write) -> None:
    write("model.py", "data = open('absent.txt').read()\n" + NET.replace("width, 2", "len(data), 2"))
    (candidate,) = candidates(Request("model.py"))
    sentence = (
        r"^model.py:8 needs data, but line 3 of model.py was left out \(raises FileNotFoundError: .*\): it binds data$"
    )
    with pytest.raises(BuildTargetError, match=sentence):
        candidate.build()


def test_a_statement_that_runs_long_is_left_out(load: Callable[[str], Loaded], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_SECONDS", 0.2)
    began = time.monotonic()
    loaded = load(
        """
        import time
        def wait():
            try:
                time.sleep(60)
            except Exception:
                return 1
        table = [wait()]
        class Net(nn.Module):
            table = []
            def forward(self, x): return table
        """
    )
    assert time.monotonic() - began < 20
    assert [(each.names, each.why) for each in loaded.left_out] == [(("table",), "runs longer than 0.2 s")]
    assert hasattr(loaded.module, "Net")


def test_models_at_module_level_are_made_with_what_they_need(load: Callable[[str], Loaded]) -> None:
    loaded = load(
        NET
        + """
def make(width):
    net = Net(width)
    return net
class Settings:
    made = 0
    def __init__(self): Settings.made += 1
width = int("3")
first = Net(width).to("cpu")
first.layer = nn.Linear(width, 5)
nn.init.ones_(first.layer.weight)
second, other = make(2), nn.Sequential(nn.Linear(2, 2))
settings = Settings()
score = first(torch.zeros(1, 3))
criterion = nn.MSELoss()
"""
    )
    module = loaded.module
    assert module.first.layer.out_features == 5
    assert bool((module.first.layer.weight == 1).all())
    assert module.second.layer.in_features == 2
    assert isinstance(module.other, nn.Sequential)
    assert isinstance(module.criterion, nn.MSELoss)
    assert module.Settings.made == 0
    assert not hasattr(module, "score")


def test_a_class_of_something_else_than_a_model_is_not_called(load: Callable[[str], Loaded], write: Write) -> None:
    write("other.py", "class Training:\n    def __init__(self): raise SystemExit\n", imports=False)
    assert load("from other import Training\n" + NET + "training = Training()\n").left_out == ()


@pytest.mark.parametrize(
    "call", ["parser.parse_args()", "parser.parse_known_args()[0]", "Options().read()"], ids=["all", "known", "inside"]
)
def test_required_options_of_a_script_are_none(call: str, load: Callable[[str], Loaded]) -> None:
    loaded = load(
        f"""
        import argparse
        parser = argparse.ArgumentParser()
        parser.add_argument("--data", required=True)
        parser.add_argument("--width", type=int, default="12")
        parser.add_argument("folder")
        class Options:
            def read(self): return parser.parse_args()
        args = {call}
        args.deep = True
        class Net(nn.Module):
            def __init__(self): self.args = args
        """
    )
    args = loaded.module.args
    assert (args.data, args.width, args.folder, args.deep) == (None, 12, None, True)


def test_conditions_choose_their_branch_and_each_statement_in_it_may_fail(load: Callable[[str], Loaded]) -> None:
    loaded = load(
        """
        import sys
        if sys.version_info > (3,):
            value = int("no number")
            class Net(nn.Module): pass
            width = 4
        else:
            width = 5
        if 1 / 0:
            depth = 3
        class Other(nn.Module):
            sizes = lambda self: (value, width, depth)
        """
    )
    assert loaded.module.width == 4
    assert hasattr(loaded.module, "Net")
    assert [each.names for each in loaded.left_out] == [("value",), ("depth",)]


def test_names_that_only_the_script_binds_are_named_when_they_are_missed(write: Write) -> None:
    write("model.py", NET.replace("width, 2", "WIDTH, 2") + "if __name__ == '__main__':\n    WIDTH = 3\n    Net()\n")
    (candidate,) = candidates(Request("model.py"))
    with pytest.raises(
        BuildTargetError, match=r"needs WIDTH, but line 10 .* \(it runs only as a script\): it binds WIDTH"
    ):
        candidate.build()


def test_what_python_and_its_tools_know_of_a_module_stays(load: Callable[[str], Loaded]) -> None:
    loaded = load(
        '''
        from dataclasses import dataclass
        @dataclass
        class Point:
            """A point."""
            x: "int" = 1
        def twice(x: Point) -> int:
            return 2 * x.x
        '''
    )
    module = loaded.module
    assert inspect.getsource(module.twice) == "def twice(x: Point) -> int:\n    return 2 * x.x\n"
    assert inspect.getsource(module.Point).startswith("@dataclass\nclass Point:")
    assert inspect.getsource(module) == loaded.source
    assert module.__spec__.origin == module.__file__
    assert module.twice.__code__.co_firstlineno == 9
    assert pickle.loads(pickle.dumps(module.Point(3))) == module.Point(3)
    assert loaded.tree is not None
    assert len(loaded.tree.body) == 5


def test_annotations_are_those_of_the_files_future(write: Write) -> None:
    settle()
    source = (
        '"""About it."""\nfrom __future__ import annotations\ndef f(x: Nowhere) -> None: ...\nclass A:\n    y: Gone\n'
    )
    module = load_file(Path(write("model.py", source, imports=False))).module
    assert module.__doc__ == "About it."
    assert module.f.__annotations__ == {"x": "Nowhere", "return": "None"}
    assert module.A.__annotations__ == {"y": "Gone"}


def test_interrupts_are_not_held_back(load: Callable[[str], Loaded]) -> None:
    with pytest.raises(KeyboardInterrupt):
        load("def stop():\n    raise KeyboardInterrupt\nclass Net(nn.Module):\n    width = stop()\n")


def test_a_module_by_its_name_is_loaded_the_same_way_and_a_library_as_always(write: Write) -> None:
    settle()
    write("pkg/__init__.py", "raise ValueError\n")
    write("pkg/nets.py", "from . import gone\ndata = open('absent.txt')\n" + NET + "def read(): return data\n")
    loaded = load_module("pkg.nets")
    assert loaded.module.__name__ == "pkg.nets"
    assert [each.names for each in loaded.left_out] == [("data",)]
    library = load_module("json.decoder")
    assert library.source is not None
    assert library.left_out == ()
    with pytest.raises(ImportTargetError, match=r"there is no module pkg\.absent"):
        load_module("pkg.absent")


def test_seeds_and_settings_of_torch_are_executed(load: Callable[[str], Loaded]) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    assert torch.equal(
        load("torch.manual_seed(1)\nvalue = [torch.rand(1)]\nclass Net(nn.Module):\n    v = value\n").module.Net.v[0],
        expected,
    )


def test_loading_is_fast(write: Write) -> None:
    settle()
    body = "".join(
        f"def f{n}(x):\n    y = [each * {n} for each in x]\n    return y, f{max(n - 1, 0)}\n" for n in range(300)
    )
    write("large.py", body)
    write("model.py", NET)
    load_file(Path("model.py"))
    began = time.process_time()
    load_file(Path("large.py"))
    assert time.process_time() - began < 1.0


def test_modules_of_the_user_are_not_python_bytecode_on_disk(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    settle()
    write("helper.py", "WIDTH = 3\n", imports=False)
    module = load_file(Path(write("model.py", "from helper import WIDTH\n"))).module
    assert module.WIDTH == 3
    assert list(Path.cwd().rglob("*.pyc")) == []
