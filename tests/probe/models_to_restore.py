"""Models that do in a forward pass whatever a measurement has to undo; each with inputs."""

from __future__ import annotations

import collections
import random
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from stablelint.inputs import Inputs

Make = Callable[[], tuple[nn.Module, Inputs]]
SMALL: dict[str, Make] = {}


def row(*shape: int) -> Inputs:
    return Inputs(torch.randn(*(shape or (8, 8))))


def small(name: str, *shape: int) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Register a class or function without arguments; its inputs are N(0, 1) of this shape."""

    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        assert name not in SMALL
        SMALL[name] = lambda: (build(), row(*shape))
        return build

    return register


class Net(nn.Module):
    """A layer, and what a subclass does around it in ``act``."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(8, 8), nn.Linear(8, 8)
        self.prepare()

    def prepare(self) -> None: ...

    def act(self, h: torch.Tensor) -> torch.Tensor:
        return h

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.act(self.fc(x))))


@small("in-place ReLU, batch norm partly in eval, dropout", 4, 3, 8, 8)
def _() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout2d(0.5))
    model.append(nn.Conv2d(4, 4, 3)).append(nn.SyncBatchNorm(4)).append(nn.ReLU6(inplace=True))
    model[1].eval()
    return model


@small("whole model in eval")
def _() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)).eval()


@small("state of every kind")
class _(Net):
    def prepare(self) -> None:
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("rebound", torch.zeros(8))
        self.register_buffer("shared", torch.ones(1).expand(8))
        self.count, self.last, self.seen = 0, None, set()
        self.cache, self.table, self.recent = [], {"h": [torch.zeros(8)]}, collections.deque(maxlen=3)
        self.plain, self.array = torch.zeros(8), np.zeros(3)
        self.settings = types.SimpleNamespace(step=0, history=[])
        self.nested = ([], {"inner": {"deep": []}})
        self.doomed = "there"

    def act(self, h: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.rebound = self.rebound + h.detach().mean(0)
        self.count += 1
        self.last = h
        self.seen.add(self.count)
        self.cache.append(h)
        self.table["h"].append(h)
        self.table[self.count] = h.detach()
        self.recent.append(h)
        self.plain += h.detach().mean(0)
        self.array += 1
        self.settings.step += 1
        self.settings.history.append(self.settings.step)
        self.nested[0].append(1)
        self.nested[1]["inner"]["deep"].append(h)
        if hasattr(self, "doomed"):
            del self.doomed
        return h


@small("random generators of its own")
class _(Net):
    def prepare(self) -> None:
        self.torch_generator = torch.Generator().manual_seed(1)
        self.numpy_generator = np.random.default_rng(1)
        self.holder = types.SimpleNamespace(python=random.Random(1), legacy=[np.random.default_rng(2)])

    def act(self, h: torch.Tensor) -> torch.Tensor:
        noise = torch.rand(h.shape, generator=self.torch_generator)
        scale = self.numpy_generator.random() + self.holder.python.random() + self.holder.legacy[0].random()
        return h + noise * scale * (torch.rand(()) + random.random() + np.random.random())


@small("hooks of modules and tensors, gradients that are there")
def _() -> nn.Module:
    model = Net()
    model.heard = []
    model.fc.register_forward_hook(lambda module, args, output: output * 2)
    model.fc.register_forward_pre_hook(lambda module, args: model.heard.append("pre"))
    model.head.register_full_backward_hook(lambda module, grads, more: model.heard.append("back"))
    model.fc.weight.register_hook(lambda grad: model.heard.append("grad"))

    def step(parameter: torch.Tensor) -> None:  # an optimiser that runs in the backward pass
        with torch.no_grad():
            parameter -= 0.1 * parameter.grad
        parameter.grad = None

    model(torch.randn(4, 8)).sum().backward()
    model.head.weight.register_post_accumulate_grad_hook(step)
    model.fc.weight.main_grad = torch.ones(8, 8)
    model.heard.clear()
    return model


@small("hooks and modules that the forward adds")
class _(Net):
    def act(self, h: torch.Tensor) -> torch.Tensor:
        self.fc.weight.register_hook(lambda grad: grad * 2)
        self.head.weight.register_post_accumulate_grad_hook(lambda parameter: None)
        self.head.register_forward_hook(lambda module, args, output: output + 1)
        self.fc.weight.note = h
        self.late = nn.Linear(8, 8)
        self.register_buffer("late_buffer", h.detach())
        self.fc.bias.contiguous().mul(2)  # an op whose result is the parameter itself
        return self.late(h)


@small("flags that the forward toggles")
class _(Net):
    def act(self, h: torch.Tensor) -> torch.Tensor:
        self.training = not self.training
        self.head.train(not self.head.training)
        self.fc.bias.requires_grad_(not self.fc.bias.requires_grad)
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
        torch.set_float32_matmul_precision("medium")
        torch.set_autocast_enabled("cpu", False)
        torch.set_autocast_dtype("cpu", torch.float16)
        torch.set_anomaly_enabled(False)
        return h


@small("grad mode switched off behind the loss")
class _(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = super().forward(x)
        torch.set_grad_enabled(False)
        return output


@small("values and memory of weights changed by the forward")
class _(Net):
    def act(self, h: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.head.bias.add_(1)
        self.head.weight.data = self.head.weight.data * 0.9
        return h


@small("a buffer that takes the graph into itself")
class _(Net):
    def prepare(self) -> None:
        self.register_buffer("average", torch.zeros(8))

    def act(self, h: torch.Tensor) -> torch.Tensor:
        self.average.mul_(0.9).add_(h.mean(0))
        return h - self.average


@small("parts that are not registered")
class _(Net):
    def prepare(self) -> None:
        self.blocks = [nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)) for _ in range(2)]
        self.scale = torch.ones(8, requires_grad=True)
        self.named = {"block": nn.BatchNorm1d(8)}

    def act(self, h: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            h = block(h)
        return self.named["block"](h) * self.scale


@small("a teacher that follows the student")
class _(Net):
    def prepare(self) -> None:
        self.teacher = nn.Linear(8, 8).requires_grad_(False)

    def act(self, h: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            for mine, follower in zip(self.fc.parameters(), self.teacher.parameters(), strict=True):
                follower.lerp_(mine, 0.1)
        return h + self.teacher(h)


@small("writes into its inputs")
class _(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.mul_(2))


class Structured(Net):
    """Takes what loaders give: a table with lists, which it writes into."""

    def forward(self, batch: dict[str, Any], pair: Any) -> torch.Tensor:
        batch["x"].add_(1)
        batch["more"].append(batch.pop("x"))
        pair.first.mul_(2)
        return super().forward(batch["more"][-1] + pair.first + batch["more"][0])


Pair = collections.namedtuple("Pair", "first second")
SMALL["structured inputs that are written into"] = lambda: (
    Structured(),
    Inputs({"x": torch.randn(8, 8), "more": [torch.randn(8, 8)]}, Pair(torch.randn(8, 8), None)),
)


def lazy() -> tuple[nn.Module, Inputs]:
    class Lazy(Net):
        def prepare(self) -> None:
            self.conv, self.norm = nn.LazyConv1d(4, 3, padding=1), nn.LazyBatchNorm1d()
            self.late, self.known = nn.LazyLinear(8), nn.BatchNorm1d(8)
            self.count = [0]

        def act(self, h: torch.Tensor) -> torch.Tensor:
            self.count[0] += 1
            h = F.relu(self.norm(self.conv(h[:, None])), inplace=True)
            return self.known(self.late(h.flatten(1)))

    return Lazy(), row()
