"""Models that are too large, factories with arguments, and modules that wrap a network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from stablelint.errors import TargetError
from stablelint.targets import build
from stablelint.targets.build import Built, candidates
from stablelint.targets.spec import expand
from stablelint.trace import trace

Write = Callable[..., str]

LARGE = """
class Net(nn.Module):
    def __init__(self, width=512):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
    def forward(self, x):
        return self.layers(x)
"""


def built(spec: str, *, real: bool = False) -> Built:
    (request,) = expand([spec])
    (candidate,) = candidates(request, real=real)
    return candidate.build()


def test_a_model_above_the_limit_is_checked_without_its_weights(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "most_parameters", lambda *, real: 1000)
    write("net.py", LARGE)
    found = built("net.py:Net")
    assert found.model.layers[0].weight.is_meta
    graph = trace(found.model, found.inputs, origins=found.origins).graph
    assert all(each.std == each.std for each in graph.parameters)


def test_a_model_above_the_limit_is_not_measured(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "most_parameters", lambda *, real: 1000)
    write("net.py", LARGE)
    with pytest.raises(TargetError, match=r"net.py:Net has more than the 0.0 billion .* without --probe it is checked"):
        built("net.py:Net", real=True)


def test_a_build_that_runs_out_of_memory_goes_on_without_weights(write: Write) -> None:
    write("net.py", LARGE.replace("width=512", "width=2_000_000"))
    found = built("net.py:Net")
    assert found.model.layers[0].weight.shape == (2_000_000, 2_000_000)
    assert found.model.layers[0].weight.is_meta


@pytest.mark.parametrize(("spec", "width"), [("net.py:Net(8)", 8), ("net.py:Net(width=16)", 16)])
def test_a_factory_takes_literal_arguments(spec: str, width: int, write: Write) -> None:
    write("net.py", LARGE)
    found = built(spec)
    assert found.name == spec
    assert found.model.layers[0].in_features == width


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("net.py:Net(widht=8)", "unexpected keyword argument 'widht'; did you mean \"width\""),
        ("net.py:Net(1, 2)", "too many positional arguments"),
        ("net.py:Nett(1)", 'has no Nett; did you mean "Net"'),
        ("net.py:model(1)", "is a Linear, which takes no arguments"),
    ],
)
def test_wrong_arguments_are_one_sentence(spec: str, sentence: str, write: Write) -> None:
    write("net.py", LARGE + "\nmodel = nn.Linear(2, 2)\n")
    with pytest.raises(TargetError) as caught:
        built(spec)
    assert sentence in str(caught.value)


def test_a_lightning_module_is_its_network_with_its_example(write: Write) -> None:
    write(
        "lightning.py",
        """
        class LightningModule(nn.Module):
            example_input_array = None
            def forward(self, *args, **kwargs):
                return super().forward(*args, **kwargs)
        """,
    )
    write(
        "net.py",
        LARGE
        + """
from lightning import LightningModule

class Trainer(LightningModule):
    def __init__(self):
        super().__init__()
        self.loss = nn.CrossEntropyLoss()
        self.network = Net(24)
        self.example_input_array = torch.zeros(3, 24)

class Whole(LightningModule):
    def __init__(self):
        super().__init__()
        self.network = Net(24)
        self.example_input_array = torch.zeros(5, 24)
    def forward(self, x):
        return self.network(x)
""",
    )
    found = built("net.py:Trainer")
    assert type(found.model).__name__ == "Net"
    assert torch.equal(found.inputs.args[0], torch.zeros(3, 24))
    whole = built("net.py:Whole")
    assert type(whole.model).__name__ == "Whole"
    assert whole.inputs.args[0].shape == (5, 24)
