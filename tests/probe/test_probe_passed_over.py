"""Exact zeros of one batch, and those that no batch lifts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stablelint.inputs import Inputs
from stablelint.probe import measure


class Beside(nn.Module):
    """``main(x)`` and, by ``how``, something of ``aside(x)`` that this batch has no use for."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.main, self.aside = how, nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        main, aside = self.main(x), self.aside(x)
        match self.how:
            case "dropped path":
                drawn = torch.rand(len(x), 1)
                return main + aside * (drawn > 2)
            case "dropped path, by shape":
                return main + aside * x.new_empty(len(x), 1).bernoulli_(0.0)
            case "maximum":
                return torch.maximum(main.sigmoid() + 2, aside.sigmoid())
            case "detection":
                chosen = (x[:, 0] > 100).long()
                return torch.stack([main, aside])[chosen, torch.arange(len(x))]
            case "written":
                both = torch.zeros_like(main)
                both[:, :4] = main[:, :4]
                both[:, 4:] = aside[:, 4:]
                return both.gather(1, (x[:, :4] < -100).long())
            case "constant":
                return main + aside * torch.zeros(8)
            case "constant, by shape":
                return main + aside * torch.zeros_like(x)
            case "a zero that is computed":
                return main + aside * (x @ torch.zeros(8, 8))
            case "zero for all data":
                return main + aside * (x * 0)
            case "routed":
                return main + aside * nn.functional.one_hot((x[:, 0] > 100).long(), 2)[:, 1:]
            case "one key":
                return main * aside[:, :1].softmax(-1)
            case "never inside":
                return main + (aside.sigmoid() + 2).clamp(0, 1)
            case "cut off by position":
                return torch.stack([main, aside])[0]
        raise AssertionError(self.how)


BATCH = ["dropped path", "dropped path, by shape", "maximum", "detection", "written", "routed"]
FOR_GOOD = [
    "constant",
    "constant, by shape",
    "a zero that is computed",
    "zero for all data",
    "one key",
    "never inside",
    "cut off by position",
]


@pytest.mark.parametrize("how", BATCH + FOR_GOOD)
def test_a_zero_is_of_the_batch_if_data_or_chance_closes_the_way(how: str) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    _, signals = measure(Beside(how), Inputs(torch.randn(6, 8)), seeds=1)
    found = {each.name: each for each in signals.parameters}
    assert found["main.weight"].grad_rms
    assert not found["main.weight"].passed_over
    assert found["aside.weight"].grad_rms == 0
    assert found["aside.weight"].passed_over == (how in BATCH)


def test_memory_that_is_written_in_steps_is_no_source_of_nan() -> None:
    class Halves(nn.Module):
        def __init__(self, whole: bool) -> None:
            super().__init__()
            self.fc, self.whole = nn.Linear(8, 8), whole

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.fc(x)
            memory = hidden.new_full((len(x), 8), torch.nan)
            memory[:, :4] = hidden[:, :4]
            if self.whole:
                memory[:, 4:] = hidden[:, 4:]
            return memory * 2

    for whole in (True, False):
        _, signals = measure(Halves(whole), Inputs(torch.randn(6, 8)), seeds=2)
        assert (signals.nonfinite is None) == whole
        assert all(row.finite for row in signals.rows) == whole


def test_nan_that_an_op_computes_is_found_also_where_it_is_filled_later() -> None:
    class Filled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = torch.log(self.fc(x))
            hidden[torch.isnan(hidden)] = 0
            return hidden * 2

    _, signals = measure(Filled(), Inputs(torch.randn(6, 8)), seeds=1)
    assert signals.nonfinite is not None
    assert signals.nonfinite.name == "log"
