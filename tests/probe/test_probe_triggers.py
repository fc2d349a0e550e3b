"""Samples that random batches do not hold, and the op that does not stand them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from stablelint.inputs import Inputs
from stablelint.probe.deep.triggers import LARGE_VALUES, triggers, unusual
from stablelint.signals import Trigger


class Apply(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], before: bool = False) -> None:
        super().__init__()
        self.function = function
        self.before = nn.Linear(8, 8) if before else nn.Identity()
        self.head = nn.LazyLinear(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.function(self.before(x)))


def found(function: Callable[[torch.Tensor], torch.Tensor], before: bool = False) -> dict[str, Trigger]:
    torch.manual_seed(0)
    model, given = Apply(function, before), torch.randn(4, 8)
    model(given)
    hits, tried = triggers(model, Inputs(given))
    assert tried == ("a sample of zeros", "a sample twice", LARGE_VALUES)
    return {hit.trigger: hit for hit in hits}


def test_the_first_op_is_named_with_the_range_of_its_inputs() -> None:
    hits = found(lambda x: x / x.abs().sum(-1, keepdim=True))
    assert list(hits) == ["a sample of zeros"]
    hit = hits["a sample of zeros"]
    assert (hit.name, hit.direction, hit.what) == ("div", "forward", "NaN")
    assert not hit.rare
    assert hit.low is not None
    assert hit.high is not None
    assert hit.low < 0 < hit.high
    assert hit.site.line is not None


def test_what_the_first_step_ends_is_rare() -> None:
    """Behind zero biases a sample of zeros stays one, and 14 norms multiply its gradient by 1000 each."""
    torch.manual_seed(0)
    model = nn.Sequential(*(layer for _ in range(14) for layer in (nn.Linear(8, 8), nn.LayerNorm(8, eps=1e-6))))
    given = Inputs(torch.randn(4, 8))
    assert not [hit for hit in triggers(model, given)[0] if hit.trigger == "a sample of zeros"]
    for layer in model:
        nn.init.zeros_(layer.bias)
    before = [parameter.clone() for parameter in model.parameters()]
    (hit,) = (hit for hit in triggers(model, given)[0] if hit.trigger == "a sample of zeros")
    assert (hit.name, hit.direction, hit.rare) == ("layer_norm", "backward", True)
    assert all(map(torch.equal, before, model.parameters()))
    for layer in model:
        layer.bias.requires_grad_(False)
    (stays,) = (hit for hit in triggers(model, given)[0] if hit.trigger == "a sample of zeros")
    assert not stays.rare


def test_a_gradient_that_only_the_backward_pass_breaks() -> None:
    hits = found(lambda x: x.square().sum(-1, keepdim=True).sqrt().expand(-1, 2))
    hit = hits["a sample of zeros"]
    assert (hit.name, hit.direction) == ("sqrt", "backward")
    assert hit.low == 0


def test_duplicates_have_no_distance() -> None:
    hits = found(lambda x: (x[:, None] - x[None]).square().sum(-1).add(torch.eye(4)).sqrt(), before=True)
    assert list(hits) == ["a sample twice"]
    assert hits["a sample twice"].name == "sqrt"


def test_large_values_are_rare() -> None:
    hits = found(lambda x: x.exp() / 1e3)
    assert list(hits) == [LARGE_VALUES]
    assert hits[LARGE_VALUES].rare


@pytest.mark.parametrize(
    "function", [lambda x: x.norm(dim=-1, keepdim=True), lambda x: torch.cdist(x, x), lambda x: x.softmax(-1)]
)
def test_what_torch_defines_at_zero_is_silent(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert found(function) == {}


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 4)

    def forward(self, tokens: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        scores = (x @ x.transpose(-2, -1)).masked_fill(attention_mask[:, None] == 0, float("-inf"))
        return self.head(scores.softmax(-1) @ x)


def test_a_mask_that_covers_a_sample() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(2, 20, (4, 6))
    given = Inputs(tokens, attention_mask=torch.ones(4, 6, dtype=torch.long))
    hits, tried = triggers(Masked(), given)
    assert [hit.trigger for hit in hits] == ["a sample with attention_mask 0 throughout"]
    assert hits[0].name == "softmax"
    assert hits[0].rare
    assert "a sample of padding (id 0)" in tried
    assert "a sample of one repeated token" in tried


def test_one_sample_changes_and_the_given_batch_does_not() -> None:
    given = torch.randn(3, 5, 4)
    kept = given.clone()
    for name, batch in unusual(nn.Linear(4, 4), Inputs(given)):
        if batch is None:
            continue
        (changed,) = batch.args
        assert torch.equal(changed[1:], given[1:]), name
        assert not torch.equal(changed[0], given[0]), name
    assert torch.equal(given, kept)


def test_what_the_model_refuses_is_not_tried() -> None:
    class Refuses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not x.any(-1).all():
                raise ValueError("blank sample")
            return self.fc(x / x.abs().amax(-1, keepdim=True))

    assert triggers(Refuses(), Inputs(torch.randn(3, 4))) == ((), ("a sample twice", LARGE_VALUES))
