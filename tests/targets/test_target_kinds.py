"""Inference of inputs of several arguments: what each is fed, that values mean the right thing, and hints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import more_models_to_infer as models
import pytest
import torch
from torch import nn

from stablelint.api import check_model
from stablelint.inputs import Inputs
from stablelint.targets.attempt import Attempts
from stablelint.targets.guess import Guess
from stablelint.targets.hints import Hint
from stablelint.targets.inputs import infer
from stablelint.targets.methods import remark_of, through, working_methods


def inferred(make: Callable[[], nn.Module], *hints: Hint) -> tuple[nn.Module, Inputs, str]:
    torch.manual_seed(0)
    model = through(make())
    maker, remark = infer(model, Attempts(model, lambda: through(make())), "model.py:Net", hints=hints)
    inputs = maker(3, model)
    model(*inputs.args, **inputs.kwargs)
    return model, inputs, remark


def described(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    if isinstance(value, dict):
        return {name: described(each) for name, each in value.items()}
    return type(value)(map(described, value)) if isinstance(value, tuple | list) else value


CASES: list[tuple[type[nn.Module], list[Any]]] = [
    (models.HeadAttention, [(8, 16, 4, 24)] * 3 + [None]),
    (models.Forecaster, [(8, 20, 3), (8, 20, 4), (8, 14, 3), (8, 14, 4)]),
    (models.Critic, [(16, 11), (16, 3)]),
    (models.Field, [(16, 14)]),
    (models.WithState, [(8, 16), ((2, 16, 10), (2, 16, 10))]),
    (models.Captions, [(8, 12), (8, 16), (8,)]),
    (models.Policy, [(16, 7)]),
    (models.Abstract, [(16, 5), (16, 8), (16, 1)]),
    (models.Trainer, [(16, 6)]),
    (models.Wrapped, [(16, 8, 5)]),
    (models.Noise, [(16, 20), (16,)]),
    (models.TwoSizes, [(4, 1, 28, 28)]),
    (models.Neighbours, [(16, 6), (16, 16)]),
    (models.Batch, [{"tokens": (8, 16), "tags": (8, 3)}]),
    (models.Windows, [(8, 12, 8)]),
    (models.Volume, [(2, 2, 4, 16, 16), (2,)]),
    (models.Steps, [(8, 16), 0]),
]


@pytest.mark.parametrize(("make", "wanted"), CASES, ids=[make.__name__ for make, _ in CASES])
def test_inputs_of_several_arguments_are_inferred(make: type[nn.Module], wanted: list[Any]) -> None:
    _, inputs, _ = inferred(make)
    assert [described(each) for each in (*inputs.args, *inputs.kwargs.values())] == wanted


def test_a_critic_shares_its_first_layer_between_state_and_action() -> None:
    _, inputs, _ = inferred(models.Critic)
    assert sum(each.shape[1] for each in inputs.args) == 14


def test_noise_that_is_multiplied_is_real_and_labels_are_indices() -> None:
    _, (noise, labels), _ = (lambda found: (found[0], found[1].args, found[2]))(inferred(models.Noise))
    assert noise.dtype is torch.float32
    assert labels.dtype is torch.long
    assert labels.max() < 10


def test_an_adjacency_keeps_neighbours_apart() -> None:
    """Ones would make all nodes alike."""
    _, inputs, _ = inferred(models.Neighbours)
    adjacency = inputs.args[1]
    assert torch.allclose(adjacency.sum(1), torch.ones(16))
    assert torch.linalg.matrix_rank(adjacency) > 8


def test_what_a_loss_wants_as_a_probability_is_one() -> None:
    _, inputs, _ = inferred(models.Likeness)
    prediction, target = inputs.args
    assert prediction.shape == target.shape
    assert 0 <= float(target.min()) < float(target.max()) <= 1


def test_ids_are_not_padding() -> None:
    _, inputs, _ = inferred(models.Padded)
    assert inputs.args[0].min() > 0


def test_a_model_without_forward_is_checked_through_its_method() -> None:
    model, inputs, _ = inferred(models.Policy)
    assert remark_of(model) == "Policy has no forward: checked through get_action_and_value(x)"
    report = check_model(model, inputs)
    assert report.signals


def test_a_forward_that_only_raises_is_none() -> None:
    model, _, _ = inferred(models.Abstract)
    assert remark_of(model) == "Abstract has no forward: checked through act(inputs, rnn_hxs, masks)"


def test_a_method_that_trains_is_not_called() -> None:
    model, _, _ = inferred(models.Trainer)
    assert working_methods(model) == ["trunk."]
    assert remark_of(model) == "Trainer has no forward: checked through trunk(input)"


def test_a_model_with_forward_is_left_as_it_is() -> None:
    model = through(models.Critic())
    assert "forward" not in vars(model)
    assert remark_of(model) is None


def test_the_arguments_of_a_call_that_was_seen_come_first() -> None:
    hint = Hint(None, 0, (64, 3, 48, 80), "float", None, "train.py:31")
    _, inputs, remark = inferred(lambda: nn.Conv2d(3, 4, 3), hint)
    assert inputs.args[0].shape == (16, 3, 48, 80)
    assert "from the call at train.py:31: input = float[16, 3, 48, 80]" in remark


def test_what_a_call_does_not_show_is_filled() -> None:
    hint = Hint("x", None, (None, 784), None, None, "train.py:3")
    _, inputs, _ = inferred(lambda: models_with_784(), hint)
    assert inputs.args[0].shape == (16, 784)


def test_a_call_that_the_model_does_not_accept_is_passed_over() -> None:
    hint = Hint(None, 0, (2, 5), "float", None, "old.py:1")
    _, inputs, remark = inferred(models.TwoSizes, hint)
    assert inputs.args[0].shape == (4, 1, 28, 28)
    assert "old.py" not in remark


def test_containers_can_be_pasted() -> None:
    state = Guess("zeros", (2, 8, 4))
    pair = Guess("tuple", parts=(("h", state), ("c", state)))
    assert described(eval(pair.code(), {"torch": torch})) == ((2, 8, 4), (2, 8, 4))
    for kind in ("ring", "one_hot", "unit", "lengths", "true", "zeros_long", "count"):
        guess = Guess(kind, (6,) if kind == "lengths" else (6, 6), 9)
        made = guess.make(torch.Generator(), torch.device("cpu"), torch.float32)
        pasted = eval(guess.code(), {"torch": torch})
        assert (pasted.shape, pasted.dtype) == (made.shape, made.dtype), kind


def models_with_784() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(784, 4)

        def forward(self, x):
            return self.layer(x.reshape(-1, 784))

    return Net()
