"""What the text of a repository tells of a call: values, places, shapes."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stablelint.targets.evidence.calls import CallSite, call_sites
from stablelint.targets.evidence.reader import Reader
from stablelint.targets.evidence.tensors import SeenCall, seen_calls
from stablelint.targets.loading import load_file, settle

Write = Callable[..., str]

NET = """
class Net(nn.Module):
    def __init__(self, width, depth, act="relu"):
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(width, width) for _ in range(depth)])
    def forward(self, x):
        return self.layers(x)
"""


def reader(file: str = "net.py") -> Reader:
    settle()
    return Reader(load_file(Path(file)).module, Path(file))


def sites(file: str = "net.py", name: str = "Net") -> list[CallSite]:
    found = reader(file)
    return list(call_sites(getattr(found.module, name), found))


def known(script: str, write: Write) -> dict[str, Any]:
    write("net.py", NET)
    write("train.py", "from net import Net\n" + textwrap.dedent(script))
    (site,) = sites()
    return site.known


@pytest.mark.parametrize(
    ("script", "values"),
    [
        ("net = Net(8, 2)", {"width": 8, "depth": 2}),
        ("WIDTH = 4\nnet = Net(2 * WIDTH, depth=WIDTH // 2)", {"width": 8, "depth": 2}),
        ("def main(width=8):\n    depth = 1\n    depth = 2\n    return Net(width, depth)", {"width": 8, "depth": 2}),
        ("def main(width):\n    return Net(width, 2)\nmain(8)", {"width": 8, "depth": 2}),
        ("cfg = {'net': {'width': 8, 'depth': 2}}\nnet = Net(**cfg['net'])", {"width": 8, "depth": 2}),
        ("cfg = dict(width=8)\nnet = Net(cfg['width'], cfg.get('depth', 2))", {"width": 8, "depth": 2}),
        ("sizes = [8, 16]\nnet = Net(sizes[0], len(sizes))", {"width": 8, "depth": 2}),
        ("width, depth = 8, 2\nnet = Net(width, depth)", {"width": 8, "depth": 2}),
        ("wide = True\nnet = Net(8 if wide else 4, 2)", {"width": 8, "depth": 2}),
    ],
)
def test_values_are_folded(script: str, values: dict[str, Any], write: Write) -> None:
    assert known(script, write) == values


def test_options_of_a_command_line_have_their_defaults(write: Write) -> None:
    script = """
        import argparse
        parser = argparse.ArgumentParser()
        parser.add_argument("--hidden-width", type=int, default="8")
        parser.add_argument("--act", choices=["gelu", "relu"], required=True)
        args = parser.parse_args()
        args.depth = 2
        net = Net(args.hidden_width, args.depth, act=args.act)
        """
    assert known(script, write) == {"width": 8, "depth": 2, "act": "gelu"}


def test_options_are_found_where_a_function_only_gets_them(write: Write) -> None:
    write("options.py", "import argparse\np = argparse.ArgumentParser()\np.add_argument('--width', default=8)\n")
    assert known("def main(args):\n    return Net(args.width, 2)", write) == {"width": 8, "depth": 2}


def test_a_value_that_the_text_does_not_tell_is_unknown(write: Write) -> None:
    write("net.py", NET)
    write("train.py", "from net import Net\ndata = load()\nnet = Net(len(data), 2)\n")
    (site,) = sites()
    assert site.known == {"depth": 2}
    assert site.unknown == ("width",)
    assert site.where == "the call in train.py:5"


def test_nothing_of_a_script_is_run(write: Write, user_folder: Path) -> None:
    assert known("open('trace.txt', 'w').write('x')\nnet = Net(8, 2)", write) == {"width": 8, "depth": 2}
    assert not (user_folder / "trace.txt").exists()


def test_parts_get_what_the_whole_passes_on(write: Write) -> None:
    whole = """
        class Whole(nn.Module):
            def __init__(self, size):
                super().__init__()
                self.net = Net(size, depth=2)
        """
    write("net.py", NET)
    write("whole.py", "from net import Net\n" + "\n".join(line[8:] for line in whole.splitlines()) + "\n")
    write("main.py", "import whole\nmodel = whole.Whole(size=8)\n")
    (site,) = sites()
    assert site.known == {"width": 8, "depth": 2}


def test_constants_come_through_star_imports(write: Write) -> None:
    write("base.py", "WIDTH = 8\n")
    write("middle.py", "from base import *\n")
    assert known("from middle import *\nnet = Net(WIDTH, 2)", write) == {"width": 8, "depth": 2}


def test_documents_notebooks_and_docstrings_are_read(write: Write) -> None:
    write(
        "net.py",
        NET.replace(
            "super().__init__()", '"""Example:\n\n        >>> net = Net(1, 2)\n        """\n        super().__init__()'
        ),
    )
    write("README.md", "# Net\n\n```python\nfrom net import Net\nnet = Net(2, 2)\n```\n", imports=False)
    cell = '{"cell_type": "code", "source": ["%matplotlib inline\\n", "net = Net(3, 2)\\n"]}'
    write("demo.ipynb", '{"cells": [' + cell + "]}", imports=False)
    found = {site.known["width"]: site.where for site in sites()}
    assert set(found) == {1, 2, 3}
    assert found[2] == "the call in README.md:5"


def test_a_class_of_the_same_name_elsewhere_is_another_one(write: Write) -> None:
    write("net.py", NET)
    write("other.py", NET + "\nnet = Net(3, 3)\n")
    write("user.py", "from other import Net\nnet = Net(4, 4)\n")
    assert sites() == []


def test_settings_are_read_from_files(write: Write) -> None:
    write("net.py", NET)
    write("configs/small.yaml", "model:\n  width: 8\n  depth: 2\nlr: 0.1\n", imports=False)
    write("run.sh", "python train.py --heads 4 --width=16\n", imports=False)
    found = reader().settings
    (best, *_) = found.best({"width", "depth"})
    assert best.values == {"width": 8, "depth": 2}
    assert best.where == "configs/small.yaml (model)"
    assert found.value("heads", "args", reader().own) == 4


def first_shapes(script: str, write: Write) -> SeenCall:
    write("net.py", NET)
    write("demo.py", "import torch\nfrom net import Net\n" + script)
    found = reader()
    return seen_calls(found.module.Net, found)[0]


@pytest.mark.parametrize(
    ("script", "shape", "kind"),
    [
        ("net = Net(8, 2)\nnet(torch.randn(4, 3, 8))", (4, 3, 8), "normal"),
        ("net = Net(8, 2).to('cpu')\nx = torch.rand((4, 8)).cuda()\ny = net(x)", (4, 8), "normal"),
        ("net = Net(8, 2)\nids = torch.randint(0, 50, (4, 7))\nnet(ids)", (4, 7), "ids"),
        ("net = Net(8, 2)\nfor x, y in data:\n    net(x.reshape(-1, 28 * 28))", (None, 784), "normal"),
        ("Net(8, 2)(torch.zeros(2, 8).unsqueeze(1))", (2, 1, 8), "normal"),
        ("net = Net(8, 2)\nx = torch.ones(2, 3, 8).permute(0, 2, 1)\nnet(x)", (2, 8, 3), "normal"),
    ],
)
def test_shapes_of_inputs_are_read(script: str, shape: tuple[int | None, ...], kind: str, write: Write) -> None:
    (seen,) = first_shapes(script, write).args
    assert seen is not None
    assert (seen.shape, seen.kind) == (shape, kind)


def test_the_range_of_ids_is_read(write: Write) -> None:
    (seen,) = first_shapes("net = Net(8, 2)\nnet(torch.randint(0, 50, (4, 7)))", write).args
    assert seen is not None
    assert seen.high == 50
