"""Inference of inputs: small models of many kinds, each written as users write them, and what they must be fed."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest
import torch
from models_to_infer import (
    Audio,
    Bare,
    Branching,
    Cell,
    Conditional,
    Diffusion,
    Flags,
    Graph,
    HandAttention,
    LanguageModel,
    Lazy,
    LearnedPositions,
    LeNet,
    Masked,
    MnistFolded,
    OddSize,
    Optional,
    Packed,
    Perceptron,
    Recurrent,
    Siamese,
    Spectrogram,
    Translator,
    Variadic,
    Voxels,
)
from torch import nn

from stablelint.errors import InputTargetError
from stablelint.inputs import Inputs
from stablelint.targets.attempt import Attempts
from stablelint.targets.inputs import infer


def inferred(make: Callable[[], nn.Module]) -> tuple[Inputs, str]:
    torch.manual_seed(0)
    model = make()
    maker, remark = infer(model, Attempts(model, make), "model.py:Net")
    inputs = maker(3, model)
    model(*inputs.args, **inputs.kwargs)
    return inputs, remark


def shapes(make: Callable[[], nn.Module]) -> list[tuple[int, ...]]:
    inputs, _ = inferred(make)
    return [tuple(each.shape) for each in (*inputs.args, *inputs.kwargs.values()) if isinstance(each, torch.Tensor)]


CASES: list[tuple[Callable[[], nn.Module], list[tuple[int, ...]]]] = [
    (lambda: nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), [(16, 8)]),
    (Perceptron, [(16, 784)]),
    (MnistFolded, [(4, 1, 28, 28)]),
    (LeNet, [(4, 1, 28, 28)]),
    (OddSize, [(4, 3, 40, 40)]),
    (Audio, [(8, 2, 64)]),
    (Voxels, [(2, 2, 8, 32, 32)]),
    (Recurrent, [(8, 16, 5)]),
    (lambda: Recurrent(batch_first=False), [(16, 8, 5)]),
    (Cell, [(8, 16, 3), (8, 6)]),
    (Packed, [(8, 16, 4), (8,)]),
    (LanguageModel, [(8, 6), (8, 6)]),
    (LearnedPositions, [(8, 10)]),
    (Translator, [(8, 16), (8, 16)]),
    (Masked, [(8, 16, 12), (8, 16)]),
    (HandAttention, [(8, 16, 12)]),
    (Diffusion, [(4, 3, 32, 32), (4,)]),
    (Conditional, [(16, 20), (16,)]),
    (Bare, [(16, 9)]),
    (Siamese, [(4, 1, 28, 28), (4, 1, 28, 28)]),
    (Spectrogram, [(4, 32, 32)]),
    (Branching, [(16, 7)]),
    (Lazy, [(4, 3, 32, 32)]),
    (Variadic, [(16, 6)]),
    (Optional, [(8, 16)]),
    (Graph, [(16, 5), (2, 64)]),
    (Flags, [(16, 5)]),
]


@pytest.mark.parametrize(
    ("make", "wanted"), CASES, ids=[getattr(make, "__name__", "model").strip("<>") for make, _ in CASES]
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_inputs_are_inferred(make: Callable[[], nn.Module], wanted: list[tuple[int, ...]]) -> None:
    assert shapes(make) == wanted


def test_a_layer_that_was_fed_nothing_names_the_argument_that_it_wants() -> None:
    class Agent(nn.Module):
        """All arguments are optional, yet none may be left out."""

        def __init__(self) -> None:
            super().__init__()
            self.encode_state, self.encode_action = nn.Linear(17, 8), nn.Linear(4, 8)
            self.encode_step = nn.Embedding(50, 8)
            self.mix = nn.GRU(8, 8, batch_first=True)

        def forward(self, states=None, actions=None, steps=None, hidden=None):
            batch, length = states.shape[0], states.shape[1]
            mixed = self.encode_state(states) + self.encode_action(actions) + self.encode_step(steps)
            return self.mix(mixed.view(batch, length, 8), hidden)[0]

    inputs, _ = inferred(Agent)
    assert {name: each.shape[-1] for name, each in inputs.kwargs.items()} == {"states": 17, "actions": 4, "steps": 16}
    assert inputs.kwargs["steps"].dtype is torch.long


def test_ids_stay_within_the_tables_that_they_are_looked_up_in() -> None:
    inputs, _ = inferred(Translator)
    source, target = inputs.args
    assert source.max() < 30
    assert 29 < target.max() < 40


def test_the_remark_is_a_function_to_paste() -> None:
    inputs, remark = inferred(Diffusion)
    assert "x = float[4, 3, 32, 32], t = int[4]" in remark
    code = remark.split("`")[1]
    namespace = {"torch": torch}
    exec(textwrap.dedent(code), namespace)
    pasted = Inputs.of(namespace["example_inputs"]())
    assert [each.shape for each in pasted.args] == [each.shape for each in inputs.args]


def test_the_same_seed_gives_the_same_inputs() -> None:
    model = Perceptron()
    maker, _ = infer(model, Attempts(model, Perceptron), "model.py:Net")
    assert torch.equal(maker(1, model).args[0], maker(1, model).args[0])
    assert not torch.equal(maker(1, model).args[0], maker(2, model).args[0])


def test_inputs_have_the_dtype_of_the_weights() -> None:
    inputs, _ = inferred(lambda: nn.Linear(3, 3).double())
    assert inputs.args[0].dtype == torch.float64


def test_trying_leaves_no_trace_in_the_attributes_of_the_model() -> None:
    class Caching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.cache = nn.Linear(4, 4), None
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.cache = self.layer(x)
            self.calls += 1
            return self.cache

    model = Caching()
    infer(model, Attempts(model, Caching), "model.py:Net")
    assert model.cache is None
    assert model.calls == 0
    assert type(model.layer.weight) is nn.Parameter


def test_what_cannot_be_fed_says_which_function_to_add() -> None:
    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, batch):
            return self.layer(batch["pixels"].left)

    with pytest.raises(InputTargetError) as caught:
        inferred(Stubborn)
    text = str(caught.value)
    assert "model.py:Net accepts in forward(batch)" in text
    assert 'add `def example_inputs(): return ({"pixels": ...},)` to the file' in text
    assert "\n" not in text


def test_what_cannot_be_fed_names_all_arguments_that_are_needed() -> None:
    class Stubborn(nn.Module):
        def forward(self, batch, scale, *, mask=None):
            return batch["pixels"] * scale.left

    with pytest.raises(
        InputTargetError, match=r'def example_inputs\(\): return \{"batch": \{"pixels": ...\}, "scale": ...\}`'
    ):
        inferred(Stubborn)
