"""A model on one batch as a scalar function of its parameters, which can be cut into samples."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_map

from stablelint.errors import NO_GRADIENT, TargetError, TraceTargetError
from stablelint.graph import Graph
from stablelint.inputs import Inputs
from stablelint.probe.frozen import calibrate
from stablelint.probe.objective import deep_places
from stablelint.probe.state import preserved, seed_everything, training
from stablelint.trace import tensors_in, trace

Loss = Callable[..., torch.Tensor]

OWN, GIVEN = "the model's own loss", "the given loss"
RANDOM = "mean squared error against random targets of unit variance"


@dataclass(frozen=True)
class Problem:
    """``value()`` is ``loss(model(inputs))``, or ``loss(model(inputs), targets)`` where there are targets.

    ``kind`` says in words which loss it is; ``seed`` fixes what the forward pass draws (dropout).
    """

    model: nn.Module
    inputs: Inputs
    loss: Loss
    targets: Any = None
    kind: str = GIVEN
    seed: int = 0

    @property
    def named_parameters(self) -> dict[str, nn.Parameter]:
        """The trainable real parameters; a tied one stands once."""
        named = self.model.named_parameters()
        return {name: p for name, p in named if p.requires_grad and p.is_floating_point() and p.numel() > 0}

    @property
    def batch(self) -> int:
        """Samples: the length of the first axis of the first tensor of the inputs, 1 where there is none."""
        tensors = tensors_in([self.inputs.args, self.inputs.kwargs])
        return next((tensor.shape[0] for tensor in tensors if tensor.dim() > 0), 1)

    def value(self) -> torch.Tensor:
        """One forward pass: the loss, a tensor without axes.

        Raises TargetError when it is no finite scalar with a gradient.
        """
        seed_everything(self.seed)
        given = copied(self.inputs)
        output = self.model(*given.args, **given.kwargs)
        loss = self.loss(output) if self.targets is None else self.loss(output, self.targets)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            raise TargetError(f"{self.kind} is not one number")
        if not loss.requires_grad:
            raise TraceTargetError(NO_GRADIENT)
        if not bool(torch.isfinite(loss.detach())):
            raise TargetError(f"{self.kind} is {float(loss.detach()):g} on this batch, so it has no curvature")
        return loss.reshape(())

    def part(self, start: int, stop: int) -> Problem:
        """The same with samples ``start`` to ``stop`` of the inputs and of the targets only.

        What has no axis of samples (a mask over positions, say) is left whole. Each part draws dropout masks of its
        own.
        """
        batch = self.batch

        def cut(value: Any) -> Any:
            samples = isinstance(value, torch.Tensor) and value.dim() > 0 and value.shape[0] == batch
            return value[start:stop] if samples else value

        args, kwargs = tree_map(cut, (self.inputs.args, self.inputs.kwargs))
        targets = tree_map(lambda value: _cut_target(value, batch, start, stop), self.targets)
        return replace(self, inputs=Inputs(*args, **kwargs), targets=targets, seed=self.seed + start)

    def redrawn(self, model: nn.Module, inputs: Inputs, seed: int) -> Problem:
        """The same loss for another model of the same class and a batch of the same shapes.

        Random targets are drawn again; given ones stay, and then the inputs that they belong to stay, too.
        """
        if self.targets is not None and self.kind != RANDOM:
            inputs = self.inputs
        targets = _targets([target.shape for target in self.targets], seed) if self.kind == RANDOM else self.targets
        if any(map(is_lazy, model.parameters())):
            with training(model):
                trace(model, inputs)
        return replace(self, model=model, inputs=inputs, targets=targets, seed=seed)

    @contextlib.contextmanager
    def settled(self) -> Iterator[None]:
        """Everything restored afterwards; in train mode, with autograd on and attention that can be derived twice."""
        with (
            preserved(self.model),
            training(self.model),
            torch.enable_grad(),
            sdpa_kernel(SDPBackend.MATH),  # fused kernels have no second derivative
        ):
            seed_everything(self.seed)
            calibrate(self.model, copied(self.inputs))
            yield


def pose(model: nn.Module, inputs: Inputs, *, loss: Loss | None = None, targets: Any = None, seed: int = 0) -> Problem:
    """The problem of ``model`` on a batch; the model is left as it was, but for lazy layers, which get their shapes.

    Without ``loss`` it is the scalar that the model itself returns, or else the mean squared error of its deep
    outputs against targets drawn from N(0, 1). A plain random projection of the outputs would not do here: it is
    linear in them, so the Gauss-Newton part of the Hessian, which makes up its top in training, would be missing.

    Raises TraceTargetError when the forward pass fails or its result has no gradient.
    """
    with training(model):
        graph = trace(model, inputs).graph
    if graph.flow.sink is None:
        raise TraceTargetError(NO_GRADIENT)
    if loss is not None:
        return Problem(model, inputs, loss, targets, GIVEN, seed)
    problem = Problem(model, inputs, _First(graph.outputs.index(graph.flow.sink)), None, OWN, seed)
    return problem if graph.ops[graph.flow.sink].shape == () else _random(problem, graph)


def copied(inputs: Inputs, *, grad: bool = False) -> Inputs:
    """Copies, so that a forward may write into them; with ``grad`` floating ones take a gradient and are no leaves."""

    def copy(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if grad and value.is_floating_point():
            return value.detach().requires_grad_().clone()
        return value.detach().clone()

    args, kwargs = tree_map(copy, (inputs.args, inputs.kwargs))
    return Inputs(*args, **kwargs)


def _random(problem: Problem, graph: Graph) -> Problem:
    with problem.settled():
        given = copied(problem.inputs)
        outputs = tensors_in(problem.model(*given.args, **given.kwargs))
    assert graph.flow.sink is not None
    places = deep_places(graph, outputs, graph.outputs.index(graph.flow.sink))
    targets = _targets([outputs[place].shape for place in places], problem.seed)
    return replace(problem, loss=_SquaredError(tuple(places)), targets=targets, kind=RANDOM)


def _targets(shapes: list[torch.Size], seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


@dataclass(frozen=True)
class _First:
    """The loss that the model returns, at ``place`` among the tensors of its output."""

    place: int

    def __call__(self, output: object) -> torch.Tensor:
        return tensors_in(output)[self.place]


@dataclass(frozen=True)
class _SquaredError:
    """Mean over ``places`` of the mean squared error of that output."""

    places: tuple[int, ...]

    def __call__(self, output: object, targets: list[torch.Tensor]) -> torch.Tensor:
        tensors = tensors_in(output)
        total = torch.zeros(())
        for place, target in zip(self.places, targets, strict=True):
            value = tensors[place]
            if value.shape != target.shape:
                raise TargetError("the outputs cannot be told apart by sample; pass loss= and targets=")
            error = F.mse_loss(value.to(torch.promote_types(value.dtype, torch.float32)), target.to(value.device))
            total = total + error.to(total.device, error.dtype)
        return total / len(targets)


def _cut_target(value: Any, batch: int, start: int, stop: int) -> Any:
    """Rows of a target: ``batch`` or a multiple of it on the first axis, or ``batch`` on the second (time first)."""
    if not isinstance(value, torch.Tensor) or value.dim() == 0:
        return value
    if value.shape[0] % batch == 0:
        times = value.shape[0] // batch
        return value[start * times : stop * times]
    if value.dim() > 1 and value.shape[1] == batch:
        return value[:, start:stop]
    return value
