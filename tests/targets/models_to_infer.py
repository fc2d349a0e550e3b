"""Small models of the kinds that people write, for which inputs have to be found."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


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
