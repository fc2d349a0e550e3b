"""The sentence for a model whose output has no gradient says what the output is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stablelint.api import check_model
from stablelint.errors import NO_GRADIENT, TraceTargetError

OUTPUTS = {
    "generator": lambda y: (y + step for step in range(2)),
    "text": lambda _: "a sentence",
    "nothing": lambda _: None,
    "number": lambda _: 3,
    "complex": torch.fft.fft,
    "detached": lambda y: y.detach(),
}


class Net(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.kind = kind

    def forward(self, x: torch.Tensor) -> object:
        return OUTPUTS[self.kind](self.layer(x))


@pytest.mark.parametrize(
    ("kind", "probe", "sentence"),
    [
        ("generator", False, "the forward pass returns a generator, which has no gradient; let it return the tensors"),
        ("text", False, "the forward pass returns a str, which has no gradient; let it return the tensors"),
        ("nothing", True, "the forward pass returns None, which has no gradient; let it return the tensors"),
        ("number", True, "the forward pass returns an int, which has no gradient; let it return the tensors"),
        (
            "complex",
            True,
            "the forward pass returns complex numbers, and a loss takes real ones; return abs() or view_as_real()",
        ),
        ("detached", False, NO_GRADIENT),
        ("detached", True, NO_GRADIENT),
    ],
)
def test_what_the_forward_pass_returns_is_said(kind: str, probe: bool, sentence: str) -> None:
    with pytest.raises(TraceTargetError) as caught:
        check_model(Net(kind), torch.randn(2, 4), probe=probe)
    assert str(caught.value) == sentence
