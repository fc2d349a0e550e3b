"""One sample at a time, and train against eval mode: what norms over the batch make of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stablelint.inputs import Inputs
from stablelint.probe.batches import batch_size, differentiable, mapped
from stablelint.probe.state import preserved, seed_everything
from stablelint.probe.tensor_statistics import rms
from stablelint.signals import Modes
from stablelint.site import Site
from stablelint.trace import tensors_in
from stablelint.trace.frames import traceback_position


def modes(model: nn.Module, inputs: Inputs, seed: int = 0) -> Modes:
    """Two forward passes in train mode and two around eval mode. The caller preserves the model's state."""
    whole = _output(model, inputs, seed)
    single, site, change = "", None, None
    batch = batch_size(inputs)
    if batch is not None and batch > 1:
        one = mapped(inputs, lambda x: x[:1].clone() if x.dim() and x.shape[0] == batch else x)
        try:
            alone = _output(model, one, seed)
            change = None if _random(model) else _difference(alone, whole, rows=1)
        except ValueError as error:  # the norms' own "Expected more than 1 value per channel when training"
            single, site = str(error).strip().split("\n")[0], _site(model, error)
        except Exception:  # a batch of one that the model's reshapes refuse is another matter
            change = None
    return Modes(single, site, change, _gap(model, inputs, whole, seed))


def _site(model: nn.Module, error: Exception) -> Site:
    """The innermost module of the model, and the innermost line of user code, that an exception went through."""
    names = {id(module): name for name, module in model.named_modules()}
    module, frame = "", error.__traceback__
    while frame is not None:
        module = names.get(id(frame.tb_frame.f_locals.get("self")), module)
        frame = frame.tb_next
    place = traceback_position(error.__traceback__)
    return Site(module) if place is None else Site(module, place.file, place.line, place.column)


def _gap(model: nn.Module, inputs: Inputs, train: list[torch.Tensor], seed: int) -> float | None:
    """Relative difference of the outputs once the running statistics are those of this batch."""
    with preserved(model), _statistics_of_one_batch(model):
        _output(model, inputs, seed)
        model.eval()
        try:
            return _difference(_output(model, inputs, seed), train)
        except Exception:  # some models return something else in eval mode
            return None


@contextlib.contextmanager
def _statistics_of_one_batch(model: nn.Module) -> Iterator[None]:
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    kept = [module.momentum for module in norms]
    for module in norms:
        module.momentum = 1.0
    try:
        yield
    finally:
        for module, momentum in zip(norms, kept, strict=True):
            module.momentum = momentum


def _random(model: nn.Module) -> bool:
    """Whether the train mode draws numbers, so that a second pass differs in any case."""
    return any(getattr(module, "p", 0) and "Drop" in type(module).__name__ for module in model.modules())


def _output(model: nn.Module, inputs: Inputs, seed: int) -> list[torch.Tensor]:
    seed_everything(seed)
    batch = differentiable(inputs)
    with torch.no_grad():
        output = model(*batch.args, **batch.kwargs)
    return [value.detach() for value in tensors_in(output) if value.is_floating_point()]


def _difference(values: list[torch.Tensor], reference: list[torch.Tensor], rows: int | None = None) -> float | None:
    """Largest relative rms difference over the outputs; None where they do not correspond."""
    if rows is not None:
        reference = [x[:rows] if x.dim() else x for x in reference]
    if [x.shape for x in values] != [x.shape for x in reference]:
        return None
    ratios = [rms(x - y) / size for x, y in zip(values, reference, strict=True) if (size := rms(y)) > 0]
    return max(ratios, default=None)
