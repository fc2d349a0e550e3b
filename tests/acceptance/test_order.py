"""What one file does to torch, to Python or to its process is not seen by any other, in whatever order they come."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stablelint import api
from stablelint.config import Config
from stablelint.report.json import render_json

_HEAD = "import os, random, sys, types, warnings\nimport numpy as np\nimport torch\nfrom torch import nn\n"
_PLAIN = """
class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.first = nn.Linear(8, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range({depth}))
        self.last = nn.Linear(width, 4)

    def forward(self, x):
        x = torch.{activation}(self.first(x))
        for block in self.blocks:
            x = torch.{activation}(block(x))
        return self.last(x)

def build(): return Net()
def example_inputs(): return (torch.randn(4, 8),)
"""


def _net(changes: str, *, depth: int = 2, activation: str = "relu") -> str:
    return f"{_HEAD}{changes}\n{_PLAIN.format(depth=depth, activation=activation)}"


#: Files that find their process as it was, whatever it is that the others have done to theirs.
FILES = {
    "plain.py": _net(""),
    "deep_sigmoids.py": _net("", depth=14, activation="sigmoid"),
    # weights that are drawn by the import, from generators that nobody has seeded
    "drawn_at_import.py": _net("") + "gain = random.random() + np.random.rand() + torch.rand(()).item()\n"
    "model = Net()\nmodel.first.weight.data.mul_(gain)\ndel build\n",
    "default_dtype.py": _net(
        "torch.set_default_dtype(torch.float64)\ntorch.set_default_device('meta')\ntorch.set_default_device('cpu')"
    ),
    "default_device.py": _net("torch.set_default_device('meta')\nnn.Module.to = lambda self, *a, **k: self"),
    "initialiser.py": _net(
        "nn.Linear.reset_parameters = lambda self: [nn.init.zeros_(each) for each in self.parameters()]\n"
        "nn.init.kaiming_uniform_ = nn.init.zeros_"
    ),
    "activation.py": _net("torch.relu = nn.functional.relu = torch.sigmoid", depth=14),
    "modules.py": _net(
        "sys.modules['torch.nn.functional'] = sys.modules['math'] = sys.modules['stablelint.predict'] = None\n"
        "sys.modules['helper'] = types.ModuleType('helper')"
    ),
    "helper.py": _net("", depth=3),
    "seeds.py": _net(
        "torch.manual_seed(7); random.seed(7); np.random.seed(7)\n"
        "torch.manual_seed = torch.random.manual_seed = lambda seed: torch.default_generator\n"
        "torch.set_num_threads(2); torch.set_grad_enabled(False)"
    ),
    "process.py": _net(
        "os.makedirs(os.environ['TMPDIR'] + '/else'); os.chdir(os.environ['TMPDIR'] + '/else')\n"
        "os.environ.clear(); sys.path.clear(); sys.argv[:] = ['other']; sys.setrecursionlimit(400)\n"
        "warnings.simplefilter('error'); os.umask(0o777)"
    ),
    "hooks.py": _net(
        "from torch.nn.modules.module import register_module_forward_hook\n"
        "register_module_forward_hook(lambda module, received, result: result * 1e-3)\n"
        "torch.set_printoptions(precision=1); nn.Module.train = lambda self, mode=True: self\n"
        "library = torch.library.Library('aten', 'IMPL')\n"
        "library.impl('tanh', lambda x: torch.ops.aten.sigmoid(x), 'CPU')"
    ),
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    for name, source in FILES.items():
        Path(name).write_text(source, encoding="utf-8")
    return list(FILES)


def reports(files: list[str], *, probe: bool = False) -> dict[str, str]:
    """The report of each file, as it would be written, without what is measured of time."""
    found = {}
    report = api.check(files, Config(probe=probe, seeds=2))
    for target in json.loads(render_json(report, timings=False))["targets"]:
        found[target["target"].partition(":")[0]] = json.dumps(target)
    return found


@pytest.mark.parametrize("probe", [False, True])
def test_the_order_of_files_does_not_matter(files: list[str], probe: bool) -> None:
    found = reports(files, probe=probe)
    assert sorted(found) == sorted(files)
    for order in (files[::-1],) if probe else (files[::-1], [*files[5:], *files[:5]], ["plain.py"], ["seeds.py"]):
        assert reports(order, probe=probe) == {name: found[name] for name in order}


def test_files_that_change_torch_do_change_what_is_said_of_them(files: list[str]) -> None:
    """Or there would be nothing that an order could spread."""
    changing = ["plain.py", "initialiser.py", "activation.py", "default_device.py", "modules.py"]
    found = {name: json.loads(text) for name, text in reports(changing).items()}
    told = {name: (target["status"], [each["code"] for each in target["findings"]]) for name, target in found.items()}
    assert told["plain.py"] == ("ok", [])
    assert all(told[name] != told["plain.py"] for name in changing[1:])
