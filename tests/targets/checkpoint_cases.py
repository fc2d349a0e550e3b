"""A small model, values for its state dict, and what is built of both."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from stablelint.graph import Parameter
from stablelint.targets.build import Built, candidates
from stablelint.targets.spec import expand
from stablelint.trace import trace

NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, 4)
    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))
def build():
    return Net()
def example_inputs():
    return torch.randn(4, 3, 8, 8)
"""


def built(spec: str, path: str | Path, *, real: bool = False) -> Built:
    (request,) = expand([spec])
    (candidate,) = candidates(request, real=real, checkpoint=Path(path))
    return candidate.build()


def parameters(found: Built) -> dict[str, Parameter]:
    return {each.name: each for each in trace(found.model, found.inputs, origins=found.origins).graph.parameters}


def weights(model: nn.Module, seed: int = 7) -> dict[str, torch.Tensor]:
    """Values that no initialisation draws, for each tensor of the state dict."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(tensor.shape, generator=draw).mul(3).add(1).to(tensor.dtype).abs()
        for name, tensor in model.state_dict().items()
    }


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, 4)
