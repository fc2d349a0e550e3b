"""torch.compile's front end is loaded where it is used, and then as if it had always been there."""

from __future__ import annotations

import subprocess
import sys

import pytest

_START = """
import sys
import torch
from torch import nn
from stablelint.trace.dynamo import once_loaded, put_off
put_off()

def there(): return "torch._dynamo.eval_frame" in sys.modules
"""

CASES = {
    "a check does not need it": """
from stablelint import api
model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 4))
assert api.check_model(model, [torch.randn(4, 8)]).ok
assert not there()
""",
    "whoever wants a submodule has the package": """
from torch._dynamo.source import LocalSource
import torch._dynamo.utils
assert there() and torch._dynamo.source.LocalSource is LocalSource and torch._dynamo.__path__
assert torch._dynamo.config is sys.modules["torch._dynamo.config"]
""",
    "settings that were made before stay": """
torch._dynamo.config.recompile_limit = 77
assert not there()
torch._dynamo.reset()
assert there() and torch._dynamo.config.recompile_limit == 77
""",
    "functions compile after fake tensors were used": """
from torch._subclasses.fake_tensor import FakeTensorMode
with FakeTensorMode():
    assert nn.Linear(2, 3)(torch.randn(4, 2)).shape == (4, 3)
assert not there()
graphs = []
compiled = torch.compile(lambda x: x.relu() + 1, backend=lambda graph, _: graphs.append(graph) or graph.forward)
assert compiled(torch.zeros(2)).tolist() == [1, 1] and len(graphs) == 1
""",
    "what is excluded from compilation is": """
@torch.compiler.disable
def left(x): return x + 1
graphs = []
compiled = torch.compile(lambda x: left(x.relu()), backend=lambda graph, _: graphs.append(graph) or graph.forward)
compiled(torch.zeros(2))
assert there() and not any("add" in graph.code for graph in graphs)
""",
    "a model that compiles in its forward pass runs as it is written": """
from stablelint.trace import trace
from stablelint.inputs import Inputs
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)
    def forward(self, x):
        return torch.compile(lambda x: torch.tanh(self.layer(x)))(x).sum()
found = trace(Net(), Inputs(torch.randn(4, 8)))
assert there() and "tanh" in {op.name.rpartition(".")[2] for op in found.graph.ops}, found.graph.ops
""",
    "it may be told when": """
told = []
with once_loaded(lambda: told.append(1)):
    assert not told
    torch._dynamo.reset()
    assert told == [1]
with once_loaded(lambda: told.append(2)):
    assert told == [1, 2]
""",
}


@pytest.mark.parametrize("case", CASES)
def test_in_a_process_of_its_own(case: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _START + CASES[case]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
