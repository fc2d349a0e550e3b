"""How batches are taken apart: by the signature of forward and of the loss, with one sentence where they do not fit."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from stablelint.errors import InputTargetError
from stablelint.feed import Batches, arrange, is_loader, second_argument
from stablelint.inputs import Inputs

Pair = collections.namedtuple("Pair", "x y")


class One(nn.Module):
    def forward(self, x): ...


class Masked(nn.Module):
    def forward(self, x, mask=None): ...


class Two(nn.Module):
    def forward(self, first, second): ...


class OwnLoss(nn.Module):
    def forward(self, ids, targets=None): ...


class Named(nn.Module):
    def forward(self, input_ids=None, attention_mask=None, labels=None): ...


class Whole(nn.Module):
    def forward(self, batch): ...


class Open(nn.Module):
    def forward(self, *args, **kwargs): ...


def cross_entropy(output, target): ...


def of_batch(output, batch): ...


@pytest.mark.parametrize(
    ("model", "batch", "loss", "args", "kwargs", "target"),
    [
        (One(), "x", None, ["x"], {}, None),
        (One(), ("x", "y"), None, ["x"], {}, "y"),
        (One(), ["x", "y"], None, ["x"], {}, "y"),
        (One(), Pair("x", "y"), cross_entropy, ["x"], {}, "y"),
        (One(), {"image": "x", "label": "y"}, None, ["x"], {}, "y"),
        (One(), {"x": "x", "label": "y", "weight": "w"}, cross_entropy, ["x"], ["x"], "y"),
        (Masked(), ("x", "y"), None, ["x"], {}, "y"),
        (Masked(), ("x", "m", "y"), None, ["x", "m"], {}, "y"),
        (Masked(), Inputs("x", mask="m"), None, ["x"], {"mask": "m"}, None),
        (Two(), ("a", "b"), None, ["a", "b"], {}, None),
        (Two(), ("a", "b", "y"), None, ["a", "b"], {}, "y"),
        (Two(), (("a", "b"), "y"), None, ["a", "b"], {}, "y"),
        (Two(), {"first": "a", "second": "b", "y": "y"}, None, [], {"first": "a", "second": "b"}, "y"),
        (OwnLoss(), ("ids", "y"), None, ["ids", "y"], {}, None),
        (OwnLoss(), ("ids", "y"), cross_entropy, ["ids"], {}, "y"),
        (Named(), {"input_ids": "i", "labels": "y"}, None, [], {"input_ids": "i", "labels": "y"}, "y"),
        (Named(), {"input_ids": "i", "labels": "y"}, cross_entropy, [], {"input_ids": "i", "labels": "y"}, "y"),
        (Whole(), {"x": "x", "y": "y"}, None, [{"x": "x", "y": "y"}], {}, "y"),
        (Open(), ("x", "y"), None, ["x", "y"], {}, None),
        (Open(), ("x", "y"), cross_entropy, ["x"], {}, "y"),
    ],
)
def test_a_batch_of_a_loader(
    model: nn.Module, batch: Any, loss: Callable[..., Any] | None, args: list[Any], kwargs: Any, target: Any
) -> None:
    found = arrange(model, batch, loss, loader=True)
    if isinstance(kwargs, list):  # by name
        args, kwargs = [], {name: name for name in kwargs}
    assert (list(found.args), found.kwargs, found.target) == (args, kwargs, target)
    assert found.batch is batch
    assert arrange(model, found, loss) is found


def test_what_is_no_batch_of_a_loader_is_all_arguments_but_for_the_target_of_a_loss() -> None:
    assert arrange(Masked(), ("x", "y")).args == ("x", "y")
    assert arrange(Masked(), ("x", "y"), lambda output: output).args == ("x", "y")
    found = arrange(Masked(), Inputs("x", "y"), cross_entropy)
    assert (found.args, found.target) == (("x",), "y")


@pytest.mark.parametrize(
    ("model", "batch", "loss", "sentence"),
    [
        (One(), ("x", "y", "z"), None, r"the batch holds 2 items for One.forward\(x\); give a tuple of its arguments"),
        (Two(), "x", None, r"the batch holds 1 item for Two.forward\(first, second\)"),
        (One(), "x", cross_entropy, r"the loss takes a target, and the batch holds 1 item for One.forward\(x\)"),
        (
            Named(),
            {"input_ids": 1, "attention_maks": 2},
            None,
            'holds "attention_maks".* did you mean "attention_mask"',
        ),
        (Named(), {"input_ids": 1, "idx": 2}, None, 'holds "idx", which Named.* does not take; leave it out or give'),
        (Two(), {"first": 1}, None, r"the batch holds first for Two.forward"),
    ],
)
def test_what_does_not_fit_is_one_sentence(model: nn.Module, batch: Any, loss: Any, sentence: str) -> None:
    with pytest.raises(InputTargetError, match=sentence):
        arrange(model, batch, loss, loader=True)


@pytest.mark.parametrize(
    ("loss", "second"),
    [
        (None, ""),
        (lambda output: output, ""),
        (lambda output, scale=2.0: output, ""),
        (lambda output, target=None: output, "target"),
        (lambda out, truth: out, "target"),
        (of_batch, "batch"),
        (nn.CrossEntropyLoss(), "target"),
        (F.mse_loss, "target"),
        (torch.sum, ""),
    ],
)
def test_what_a_loss_takes(loss: Any, second: str) -> None:
    assert second_argument(loss) == second


def test_a_loss_of_three_arguments_is_refused() -> None:
    with pytest.raises(InputTargetError, match=r"the loss takes \(output, target, model\); write it as loss\(output\)"):
        second_argument(lambda output, target, model: output)


def test_what_is_a_loader() -> None:
    class Endless(IterableDataset):
        def __iter__(self):
            return iter(())

    data = TensorDataset(torch.zeros(4, 2))
    assert all(map(is_loader, [DataLoader(data), Endless(), iter([1]), (x for x in [1])]))
    assert not any(map(is_loader, [torch.zeros(2), [1], (1,), {"x": 1}, Inputs(1), "x", nn.ModuleList()]))


def test_batches_are_fetched_when_they_are_asked_for_and_begin_again() -> None:
    fetched: list[int] = []
    batches = Batches(fetched.append(number) or number for number in range(3))
    assert batches[0] == 0
    assert fetched == [0]
    assert [batches[number] for number in (1, 2, 3, 4)] == [1, 2, 0, 1]
