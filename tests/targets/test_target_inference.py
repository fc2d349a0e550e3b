"""Inference of inputs: small models of many kinds, each written as users write them, and what they must be fed."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

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


class Perceptron(nn.Module):
    """MNIST as a vector, with the view inside."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x):
        return self.layers(x.view(x.size(0), -1))


class MnistFolded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4 * 13 * 13, 10)

    def forward(self, x):
        x = x.view(x.size(0), 1, 28, 28)
        return self.head(torch.flatten(F.max_pool2d(F.relu(self.conv(x)), 2), 1))


class LeNet(nn.Module):
    """Only 28 fits; with view(-1, 320) other sizes would mix the samples."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 5)
        self.fc = nn.Linear(320, 10)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.fc(x.view(-1, 320))


class OddSize(nn.Module):
    """Wants 40 x 40, which is on nobody's list."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 20 * 20, 2)

    def forward(self, img):
        return self.fc(F.max_pool2d(self.conv(img), 2).flatten(1))


class Audio(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv1d(2, 8, 9, stride=4), nn.Linear(8, 3)

    def forward(self, wave):
        return self.head(self.conv(wave).mean(-1))


class Voxels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 4, 3, padding=1)

    def forward(self, volume):
        return self.conv(volume).mean((2, 3, 4))


class Recurrent(nn.Module):
    def __init__(self, *, batch_first: bool = True) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(5, 8, batch_first=batch_first), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 6)

    def forward(self, x, h):
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return h


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 8, batch_first=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.rnn(packed)[1]


class LanguageModel(nn.Module):
    """A table of positions shorter than the usual guess, targets, and a loss."""

    def __init__(self, vocabulary: int = 50, block: int = 6) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, 8), nn.Embedding(block, 8)
        self.head = nn.Linear(8, vocabulary)

    def forward(self, idx, targets):
        _, time = idx.shape
        logits = self.head(self.tokens(idx) + self.positions(torch.arange(time)))
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class LearnedPositions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(20, 8), nn.Parameter(torch.zeros(1, 10, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, tokens):
        return self.block(self.embedding(tokens) + self.positions).mean(1)


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(30, 16), nn.Embedding(40, 16)
        self.body = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)

    def forward(self, src, tgt):
        return self.body(self.source(src), self.target(tgt))


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)

    def forward(self, x, key_padding_mask):
        return self.attention(x, x, x, key_padding_mask=key_padding_mask)[0]


class HandAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 36)

    def forward(self, x):
        batch, time, width = x.shape
        q, k, v = self.qkv(x).view(batch, time, 3, width).unbind(2)
        return (q @ k.transpose(1, 2)).softmax(-1) @ v


class Diffusion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.steps, self.conv = nn.Embedding(100, 4), nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x, t):
        return self.conv(x) + self.steps(t)[:, :, None, None]


class Conditional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.label, self.layer = nn.Embedding(10, 6), nn.Linear(20 + 6, 784)

    def forward(self, z, labels):
        return self.layer(torch.cat([z, self.label(labels)], 1))


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(torch.randn(9, 5)), nn.Parameter(torch.randn(5, 2))

    def forward(self, x):
        return torch.tanh(x @ self.w1) @ self.w2


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4 * 26 * 26, 8)

    def forward(self, left, right):
        return (self.fc(self.conv(left).flatten(1)) - self.fc(self.conv(right).flatten(1))).norm(dim=1)


class Spectrogram(nn.Module):
    """Adds the axis of channels itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, mel):
        return self.conv(mel.unsqueeze(1)).mean((2, 3))


class Branching(nn.Module):
    """What fake tensors cannot decide: the real pass does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(7, 7)

    def forward(self, x):
        y = self.layer(x)
        return y if y.sum() > 0 else -y


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.LazyConv2d(4, 3), nn.LazyLinear(2)

    def forward(self, x):
        return self.head(self.conv(x).flatten(1))


class Variadic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, *xs):
        return self.layer(xs[0])


class Optional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(11, 4), nn.Linear(4, 2)

    def forward(self, attention_mask=None, input_ids=None, labels=None):
        return self.head(self.embedding(input_ids))


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x, edge_index):
        source, target = edge_index
        return torch.zeros_like(x).index_add(0, target, self.layer(x)[source])


class Flags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x: torch.Tensor, double: bool, times: int, mask: torch.Tensor | None):
        return self.layer(x) * (2 if double else times)


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
            return self.layer(batch["pixels"]["left"])

    with pytest.raises(InputTargetError) as caught:
        inferred(Stubborn)
    text = str(caught.value)
    assert "model.py:Net accepts in forward(batch)" in text
    assert "add `def example_inputs(): return" in text
    assert "\n" not in text
