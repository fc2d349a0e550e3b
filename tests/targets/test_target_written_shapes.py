"""Shapes that the author wrote down, in annotations and docstrings, and the line that is printed to paste."""

from __future__ import annotations

import inspect

import pytest
import torch
from models_to_infer import (
    Diffusion,
    HandAttention,
    LanguageModel,
    LeNet,
    Masked,
    Packed,
    Perceptron,
    Translator,
    Voxels,
)
from torch import nn

from stablelint.inputs import Inputs
from stablelint.targets.annotations import axes_of
from stablelint.targets.attempt import Attempts
from stablelint.targets.inputs import infer


class Written(nn.Module):
    """Two views of a signal without a layer that tells its width."""

    def forward(self, x):
        assert x.shape[-1] == 64
        return x.unflatten(-1, (8, 8)).sum(-1)


def annotated(annotation):
    class Annotated(Written):
        def forward(self, x):
            return super().forward(x)

    Annotated.forward.__annotations__["x"] = annotation
    return Annotated


def documented(text, *, on_class=False):
    class Documented(nn.Module):
        def forward(self, x):
            assert x.shape[1:] == (5, 40, 40), x.shape
            return x.mean((2, 3))

    Documented.__doc__ = text if on_class else None
    Documented.forward.__doc__ = None if on_class else text
    return Documented


def remark(make):
    model = make()
    return infer(model, Attempts(model, make), "model.py:Net")[1]


@pytest.mark.parametrize(
    "annotation",
    [
        'Float[Tensor, "batch seq 64"]',
        "jaxtyping.Float[torch.Tensor, 'batch seq 64']",
        'Float[Tensor, "*batch seq width=64"]',
        'Float32[Tensor, "... seq 64"]',
    ],
)
def test_sizes_in_annotations_are_taken(annotation):
    assert "x = float[8, 16, 64]" in remark(annotated(annotation))


def test_annotations_that_are_objects_are_taken():
    jaxtyping = pytest.importorskip("jaxtyping")
    make = annotated(jaxtyping.Float[torch.Tensor, "batch seq 64"])
    assert "x = float[8, 16, 64]" in remark(make)


@pytest.mark.parametrize(
    ("text", "on_class"),
    [
        ("x: (batch, 5, 40, 40)", False),
        ("Classify.\n\nArgs:\n    x (torch.Tensor): images of shape (B, 5, 40, 40), normalised\n", False),
        ("Parameters\n----------\nx : Tensor of shape [N, 5, 40, 40]\n    The images.\n", False),
        (":param x: images\n    in the form ``(B, 5, 40, 40)``", False),
        ("A net.\n\nShape:\n    - x: :math:`(N, 5, 40, 40)`\n", True),
    ],
)
def test_sizes_in_docstrings_are_taken(text, on_class):
    assert "x = float[4, 5, 40, 40]" in remark(lambda: documented(text, on_class=on_class)())


@pytest.mark.parametrize(
    "text", ["x (Tensor, optional): the input", "x: the input (see below)", "xs: (2, 3)", "x: input\ny: (3, 4)", ""]
)
def test_other_brackets_are_no_shapes(text):
    model = documented(text)()
    assert axes_of(inspect.signature(model.forward).parameters["x"], model) is None


def test_axes_of_the_same_name_have_the_same_size():
    class Pair(nn.Module):
        def forward(self, queries, keys, gate):
            assert keys.shape[1] == gate.shape[2]
            return (queries @ keys.mT * gate).softmax(-1) @ keys

    for name, axes in (("queries", "b q 12"), ("keys", "b k 12"), ("gate", "b 1 k")):
        Pair.forward.__annotations__[name] = f'Float[Tensor, "{axes}"]'
    assert "gate = float[8, 1, 16]" in remark(Pair)


PASTED = [Diffusion, HandAttention, LanguageModel, LeNet, Masked, Packed, Perceptron, Translator, Voxels]


@pytest.mark.parametrize("make", PASTED)
def test_what_is_printed_can_be_pasted(make):
    """Into a file of its own: the line runs, and the model takes what it gives."""
    torch.manual_seed(0)
    code = remark(make).split("`")[1]
    file = {"__name__": "model"}
    exec(f"import torch\nimport stablelint\n{code}\n", file)
    pasted = Inputs.of(file["example_inputs"]())
    make()(*pasted.args, **pasted.kwargs)


def test_what_is_printed_for_a_transformers_model_can_be_pasted():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(num_hidden_layers=1, hidden_size=16, num_attention_heads=2, intermediate_size=16)

    def make():
        return transformers.BertForMaskedLM(config)

    code = remark(make).split("`")[1]
    file = {}
    exec(f"import torch\n{code}\n", file)
    pasted = Inputs.of(file["example_inputs"]())
    assert make()(*pasted.args, **pasted.kwargs).logits.shape[:2] == (2, 32)
