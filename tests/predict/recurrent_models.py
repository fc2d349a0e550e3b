"""Recurrent layers and loops that the prediction is compared on."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Last(nn.Module):
    """A recurrent layer that is read at its last step."""

    def __init__(self, cell: nn.RNNBase, prepare: Callable[[nn.RNNBase], object] | None = None) -> None:
        super().__init__()
        self.cell = cell
        if prepare is not None:
            with torch.no_grad():
                prepare(cell)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.cell(x)[0]
        return y[:, -1] if self.cell.batch_first else y[-1]


class Cells(nn.Module):
    """One or two cells in a loop."""

    def __init__(self, kind: type[nn.RNNCellBase], *, two: bool = False) -> None:
        super().__init__()
        self.first = kind(16, 48)  # type: ignore[call-arg]
        self.second = kind(48, 48) if two else None  # type: ignore[call-arg]

    def forward(self, x: Tensor) -> Tensor:
        out, state, above = x[:, 0], None, None
        for at in range(x.shape[1]):
            state = self.first(x[:, at], state)
            out = state[0] if isinstance(state, tuple) else state
            if self.second is not None:
                above = self.second(out, above)
                out = above[0] if isinstance(above, tuple) else above
        return out


class WrittenLSTM(nn.Module):
    """All gates from one linear layer of the input and the state."""

    def __init__(self, forget: float = 0.0) -> None:
        super().__init__()
        self.gates = nn.Linear(16 + 48, 4 * 48)
        with torch.no_grad():
            self.gates.bias[48:96] += forget

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[0], 48)
        for at in range(x.size(1)):
            i, f, g, o = self.gates(torch.cat([x[:, at], h], 1)).chunk(4, 1)
            c = torch.sigmoid(f) * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return h


class WrittenGRU(nn.Module):
    """One linear layer per gate, inputs by unbind, outputs by stack."""

    def __init__(self) -> None:
        super().__init__()
        self.update, self.reset, self.new = (nn.Linear(16 + 48, 48) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        h, outs = torch.zeros(x.shape[0], 48, dtype=x.dtype), []
        for step in x.unbind(1):
            both = torch.cat((step, h), -1)
            z, r = F.sigmoid(self.update(both)), torch.sigmoid(self.reset(both))
            h = (1 - z) * torch.tanh(self.new(torch.cat((step, r * h), -1))) + z * h
            outs.append(h)
        return torch.stack(outs, 1)[:, -1]


class WrittenRNN(nn.Module):
    """``tanh(x U + h W + b)`` with parameters; W is ``a I`` plus noise."""

    def __init__(self, diagonal: float, noise: float) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.randn(16, 48) / 4)
        self.w = nn.Parameter(diagonal * torch.eye(48) + noise * torch.randn(48, 48) / math.sqrt(48))
        self.b = nn.Parameter(torch.zeros(48))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], 48, dtype=x.dtype)
        for at in range(x.shape[1]):
            h = torch.tanh(x[:, at, :] @ self.u + h @ self.w + self.b)
        return h


class Attending(nn.Module):
    """A decoder that looks at all inputs before each step."""

    def __init__(self) -> None:
        super().__init__()
        self.ask, self.cell = nn.Linear(32, 16), nn.GRUCell(16, 32)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 32)
        for _ in range(10):
            weights = torch.softmax((x @ self.ask(h).unsqueeze(2)).squeeze(2) / 4, 1)
            h = self.cell(torch.bmm(weights.unsqueeze(1), x).squeeze(1), h)
        return h


def scaled_by(factor: float) -> Callable[[nn.RNNBase], object]:
    return lambda cell: cell.weight_hh_l0.mul_(factor)


def bias_of_forget_gates(amount: float) -> Callable[[nn.RNNBase], object]:
    def prepare(cell: nn.RNNBase) -> None:
        for name, parameter in cell.named_parameters():
            if "bias" in name:
                parameter.zero_()
                parameter[cell.hidden_size : 2 * cell.hidden_size] = amount

    return prepare


def orthogonal(cell: nn.RNNBase) -> None:
    nn.init.orthogonal_(cell.weight_hh_l0)


def identity(cell: nn.RNNBase) -> None:
    nn.init.eye_(cell.weight_hh_l0)
