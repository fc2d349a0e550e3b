"""Losses of logits that get bounded values: in the forward pass, and in the loss that is given beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from spelling import check_spelling, indented
from torch import nn
from torch.nn import functional as F

from stablelint.api import check_model
from stablelint.finding import Finding, Level
from stablelint.graph import Graph
from stablelint.graph.squashed import find_squashed
from stablelint.inputs import Inputs
from stablelint.probe.given_loss import with_loss
from stablelint.trace import trace

LOSSES = {
    "functional": "return F.binary_cross_entropy_with_logits(torch.sigmoid(x), y)  # finding",
    "module": "return nn.BCEWithLogitsLoss()(x.sigmoid(), y)  # finding",
    "own line": "x = F.hardsigmoid(x)  # finding\nreturn F.binary_cross_entropy_with_logits(x, y)",
    "reshaped": "x = x.softmax(-1)  # finding\nreturn F.binary_cross_entropy_with_logits(x.reshape(-1), y.reshape(-1))",
    "float": "x = x.tanh()  # finding\nreturn F.binary_cross_entropy_with_logits(x.float(), y)",
    "classes": "x = x.softmax(-1)  # finding\nreturn F.cross_entropy(x, y)",
    "class numbers": "x = F.softmax(x, 1)  # finding\nreturn nn.CrossEntropyLoss()(x, y.argmax(-1))",
    "several labels": "x = x.sigmoid()  # finding\nreturn F.multilabel_soft_margin_loss(x, y)",
}


@pytest.mark.parametrize("end", LOSSES.values(), ids=LOSSES)
def test_a_loss_in_the_forward_pass(end: str) -> None:
    check_spelling(
        "SL102",
        f"""
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, x, y):
        x = self.body(x)
{indented(end, 8)}


def example_inputs():
    return torch.randn(16, 16), torch.rand(16, 4)
""",
    )


class Net(nn.Module):
    def __init__(self, end: Callable[[torch.Tensor], Any], outputs: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.end = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, outputs)), end

    def forward(self, x: torch.Tensor) -> Any:
        return self.end(self.body(x))


def batch(labels: torch.Tensor) -> Inputs:
    inputs = Inputs(torch.randn(16, 16))
    inputs.target = labels
    return inputs


def given(model: nn.Module, labels: torch.Tensor, loss: Callable[..., Any]) -> Graph:
    """The graph of the model with the ops of the loss."""
    traced = trace(model, batch(labels))
    return with_loss(traced.graph, traced.output, batch(labels), loss)


def found(model: nn.Module, loss: Callable[..., Any], target: torch.Tensor, probe: bool) -> list[Finding]:
    report = check_model(model, Inputs(torch.randn(16, 16), target), loss=loss, probe=probe)
    return [finding for finding in report.findings if finding.code == "SL102"]


ENDS: dict[str, tuple[Callable[[torch.Tensor], Any], Callable[..., Any]]] = {
    "tensor": (torch.sigmoid, F.binary_cross_entropy_with_logits),
    "module": (nn.Sigmoid(), nn.BCEWithLogitsLoss()),
    "table": (
        lambda x: {"logits": x, "scores": x.sigmoid()},
        lambda output, y: F.binary_cross_entropy_with_logits(output["scores"], y),
    ),
    "second of two": (lambda x: (x, x.sigmoid()), lambda output, y: nn.BCEWithLogitsLoss()(output[1], y)),
    "in the loss": (lambda x: x, lambda output, y: F.binary_cross_entropy_with_logits(output.sigmoid(), y)),
}
FINE: dict[str, tuple[Callable[[torch.Tensor], Any], Callable[..., Any]]] = {
    "logits": (lambda x: x, F.binary_cross_entropy_with_logits),
    "probabilities": (torch.sigmoid, F.binary_cross_entropy),
    "first of two": (lambda x: (x, x.sigmoid()), lambda output, y: nn.BCEWithLogitsLoss()(output[0], y)),
    "target": (torch.sigmoid, lambda output, y: F.binary_cross_entropy_with_logits(y - 0.5, output)),
    "squared": (torch.sigmoid, F.mse_loss),
}


@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.parametrize("name", ENDS)
def test_a_loss_that_is_given(name: str, probe: bool) -> None:
    end, loss = ENDS[name]
    (finding,) = found(Net(end), loss, torch.rand(16, 4), probe)
    assert finding.level is Level.WARNING
    assert Path(finding.site.file or "").name == Path(__file__).name
    assert "0.69" in finding.message


@pytest.mark.parametrize("name", FINE)
def test_a_loss_that_fits(name: str) -> None:
    end, loss = FINE[name]
    assert found(Net(end), loss, torch.rand(16, 4), False) == []


@pytest.mark.parametrize(
    ("squash", "classes"), [(torch.sigmoid, 10), (lambda x: x.softmax(-1), 10), (torch.tanh, 10), (torch.tanh, 2)]
)
def test_the_least_loss_of_classes_is_approached_and_not_passed(
    squash: Callable[[torch.Tensor], torch.Tensor], classes: int
) -> None:
    labels = torch.arange(16) % classes
    model = Net(squash, classes)
    graph = given(model, labels, F.cross_entropy)
    (hit,) = find_squashed(graph)
    sure = 60 * F.one_hot(labels, classes).float() - 30
    assert hit.least == pytest.approx(float(F.cross_entropy(squash(sure), labels)), rel=1e-5)
    assert hit.chance == pytest.approx(math.log(classes))


@pytest.mark.parametrize(("squash", "positive"), [(torch.sigmoid, 0.0), (torch.tanh, 0.0), (torch.tanh, 1.0)])
def test_the_least_loss_of_a_yes_or_no(squash: Callable[[torch.Tensor], torch.Tensor], positive: float) -> None:
    labels = torch.full((16, 1), positive)
    model = Net(squash, 1)
    graph = given(model, labels, F.binary_cross_entropy_with_logits)
    (hit,) = find_squashed(graph)
    sure = torch.full((16, 1), 30 if positive else -30.0)
    assert hit.least == pytest.approx(float(F.binary_cross_entropy_with_logits(squash(sure), labels)), rel=1e-5)


def test_a_loss_that_fails_says_nothing_and_one_with_a_state_keeps_it() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return F.binary_cross_entropy_with_logits(output, y)

    model, labels, loss = Net(torch.sigmoid), torch.rand(16, 4), Counts()
    assert given(model, labels, lambda output: output["missing"]).loss is None
    assert len(find_squashed(given(model, labels, loss))) == 1
    assert loss.calls == 0


class Holder:
    """What a model may return: an object of its own."""

    def __init__(self, scores: torch.Tensor, chances: torch.Tensor) -> None:
        self.scores, self.chances = scores, chances


def test_outputs_are_told_apart_whatever_else_is_returned() -> None:
    """The same tensor twice, complex numbers and counts shift no place."""
    bce = F.binary_cross_entropy_with_logits
    many = Net(lambda x: (x, x.float(), torch.fft.fft(x), x.argmax(-1), x.sigmoid(), x))
    labels = torch.rand(16, 4)
    for place, squashed in ((0, 0), (1, 0), (4, 1), (5, 0)):
        assert len(find_squashed(given(many, labels, lambda o, y, place=place: bce(o[place], y)))) == squashed
    held = Net(lambda x: Holder(x, x.sigmoid()))
    assert len(find_squashed(given(held, labels, lambda o, y: bce(o.chances, y)))) == 1
    assert not find_squashed(given(held, labels, lambda o, y: bce(o.scores, y)))


def test_classes_are_counted_where_the_loss_reads_them() -> None:
    labels = torch.zeros(16 * 2, dtype=torch.long)
    model = Net(lambda x: x.reshape(16, 2, 6).softmax(-1), 12)
    (flat,) = find_squashed(given(model, labels, lambda o, y: F.cross_entropy(o.reshape(-1, 6), y)))
    (moved,) = find_squashed(given(model, labels, lambda o, y: F.cross_entropy(o.transpose(1, 2), y.reshape(16, 2))))
    assert flat.chance == moved.chance == pytest.approx(math.log(6))
    one = Net(lambda x: x.softmax(-1), 1)
    assert not find_squashed(given(one, torch.zeros(16, dtype=torch.long), F.cross_entropy))


def test_a_loss_that_weighs_or_writes_into_the_output() -> None:
    labels = torch.rand(16, 4)
    weighing = nn.BCEWithLogitsLoss(pos_weight=torch.full((4,), 0.1))
    (finding,) = found(Net(torch.sigmoid), weighing, labels, False)
    assert "keeps away from 0" in finding.message
    (written,) = find_squashed(
        given(Net(lambda x: x), labels, lambda o, y: F.binary_cross_entropy_with_logits(o.sigmoid_(), y))
    )
    assert written.inside


def test_a_finding_inside_the_loss_hides_no_symptom_of_the_model() -> None:
    class Saturated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(16, 64), nn.Linear(64, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.sigmoid(300 * self.first(x)))

    for zeros in range(8):

        def loss(output: torch.Tensor, y: torch.Tensor, zeros: int = zeros) -> torch.Tensor:
            for _ in range(zeros):
                output = output + 0
            return F.binary_cross_entropy_with_logits(output.sigmoid(), y)

        report = check_model(Saturated(), Inputs(torch.randn(16, 16), torch.rand(16, 4)), loss=loss, probe=False)
        assert {finding.code for finding in report.findings} == {"SL102", "SL914"}
