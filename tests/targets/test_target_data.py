"""`example_inputs` that gives a loader, and `example_loss`, in a file of the user."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from stablelint import api, jobs
from stablelint.config import Config
from stablelint.errors import InputTargetError, TargetError
from stablelint.probe import measure
from stablelint.targets.build import Built, candidates
from stablelint.targets.spec import Request

Write = Callable[..., str]

NET = """
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    def forward(self, x, mask=None):
        assert mask is None
        return self.body(x)
"""
LOADER = """
def example_inputs():
    x = torch.arange(20.0)[:, None].expand(20, 8)
    return DataLoader(TensorDataset(x, torch.arange(20) % 3), batch_size=5)
"""
YIELDS = """
def example_inputs():
    for number in range(4):
        yield {"x": torch.full((5, 8), 5.0 * number + 2), "label": torch.full((5,), number % 3)}
"""


def build(spec: str = "model.py") -> Built:
    (candidate,) = candidates(Request(spec))
    return candidate.build()


def result(events: Iterator[Any]) -> Any:
    """What a job of the worker gives, run in this process."""
    (found,) = [value for kind, _, value in events if kind == "result"]
    return found


def first(built: Built, seed: int) -> torch.Tensor:
    inputs = built.inputs if seed == 0 else built.rebuild(seed)[1]
    x: torch.Tensor = (*inputs.args, *inputs.kwargs.values())[0]
    return x


@pytest.mark.parametrize("given", [LOADER, YIELDS])
def test_every_seed_has_its_batch(given: str, write: Write) -> None:
    write("model.py", NET + given)
    built = build()
    assert [float(first(built, seed).mean()) for seed in range(5)] == [2.0, 7.0, 12.0, 17.0, 2.0]
    assert built.inputs.target.shape == (5,)
    assert built.loss is None
    assert built.remarks == ()


def test_a_shuffled_loader_gives_the_same_batches_in_every_run(write: Write) -> None:
    write("model.py", NET + LOADER.replace("batch_size=5", "batch_size=5, shuffle=True"))
    one, other = build(), build()
    assert all(torch.equal(first(one, seed), first(other, seed)) for seed in range(3))
    assert not torch.equal(first(one, 0), first(one, 1))


@pytest.mark.parametrize(
    ("data", "loss"),
    [
        (LOADER, "def example_loss(output, target): return F.cross_entropy(output, target)"),
        (LOADER, "def example_loss(output, batch): return F.cross_entropy(output, batch[1])"),
        (YIELDS, "def example_loss(output, batch): return F.cross_entropy(output, batch['label'])"),
        (LOADER, "example_loss = nn.CrossEntropyLoss()"),
        ("def example_inputs(): return torch.randn(5, 8), torch.arange(5) % 3\n", "example_loss = F.cross_entropy"),
        ("", "def example_loss(output): return output.square().mean()"),
    ],
)
def test_a_loss_reaches_the_probe(data: str, loss: str, write: Write) -> None:
    write("model.py", NET + data + loss + "\n")
    built, config = build(), Config(seeds=2, probe=True)
    assert built.loss is not None
    _, projected = measure(built.model, built.inputs, rebuild=built.rebuild, seeds=2)
    (_, own, _) = result(jobs.measure((Request("model.py"), config, ())))
    own = own.measured
    assert own.seeds == 2
    assert own.parameters[0].grad_rms != pytest.approx(projected.parameters[0].grad_rms, rel=0.01)
    (_, found, _) = result(jobs.curvature((Request("model.py"), config, ())))
    assert found.loss == "the given loss"
    assert found.hessian is not None
    assert result(jobs.check((Request("model.py"), config, ()))).ok


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("def example_inputs(): return DataLoader([])\n", "the loader is empty: it gives no batch"),
        ("def example_inputs():\n    yield 1 / 0\n", r"model.py:\d+ raises ZeroDivisionError: division by zero while"),
        ("def example_inputs():\n    yield torch.ones(5, 9)\n", "raises RuntimeError: .* when it is called with"),
        ("def example_inputs():\n    yield 1, 2, 3, 4\n", r"the batch holds 3 items for Net.forward\(x, mask=None\)"),
        ("example_loss = 0.5\n", "example_loss of model.py:Net is a float, not a function of the output"),
        ("def example_loss(a, b, c): return a\n", r"the loss takes \(a, b, c\); write it as loss\(output\)"),
        (
            "def example_loss(a, b): return a\n",
            "example_loss of model.py:Net takes a target; give it in example_inputs",
        ),
    ],
)
def test_what_cannot_be_used_is_one_sentence(source: str, sentence: str, write: Write) -> None:
    write("model.py", NET + source)
    with pytest.raises(InputTargetError, match=sentence) as caught:
        build()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        ("output", r"the loss gives a tensor of shape \(5, 3\), not one number; take its mean"),
        ("output.argmax().float()", "the loss has no gradient"),
        ("output @ output", r"the loss fails at .*model.py:\d+: RuntimeError"),
    ],
)
def test_a_loss_that_cannot_be_used_is_one_sentence(loss: str, sentence: str, write: Write) -> None:
    write("model.py", NET + LOADER + f"def example_loss(output): return {loss}\n")
    config = Config(seeds=1, probe=True)
    with pytest.raises(TargetError, match=sentence):
        result(jobs.measure((Request("model.py"), config, ())))
    report = result(jobs.check((Request("model.py"), config, ())))
    assert (report.status, bool(re.search(sentence, report.reason))) == ("failed", True)


def test_loader_and_loss_from_the_command_line(write: Write) -> None:
    write("model.py", NET + LOADER + "example_loss = nn.CrossEntropyLoss()\n")
    assert not api.check(["model.py"], Config(seeds=2, probe=True)).failed


def test_inputs_and_loss_need_not_be_meant_for_every_model_of_a_file(write: Write) -> None:
    other = "class Other(nn.Linear):\n    def __init__(self):\n        super().__init__(5, 2)\n"
    loss = "def example_loss(output, target): return F.cross_entropy(output, target)\n"
    write("model.py", NET + other + LOADER + loss)
    built = {candidate.name: candidate.build() for candidate in candidates(Request("model.py"))}
    assert built["model.py:Net"].loss is not None
    assert built["model.py:Other"].loss is None
    assert built["model.py:Other"].inputs.args[0].shape[-1] == 5
