"""A measurement leaves the model, its inputs and the process as they were, also when it is interrupted.

The models that are named in ``ALWAYS`` are looked at in every run, all of them in ``pytest -m zoo``.
"""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from architectures_to_restore import RELEASED
from failing import Fails
from footprint import Footprint
from layers_to_restore import SMALL
from models_to_restore import Make, lazy, row
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules import module as module_hooks
from torch.optim.optimizer import register_optimizer_step_post_hook

from stablelint.api import check_model
from stablelint.errors import TargetError
from stablelint.inputs import Inputs
from stablelint.probe import measure
from stablelint.trace import tensors_in

ALWAYS = {
    "in-place ReLU, batch norm partly in eval, dropout",
    "whole model in eval",
    "state of every kind",
    "random generators of its own",
    "hooks of modules and tensors, gradients that are there",
    "hooks and modules that the forward adds",
    "flags that the forward toggles",
    "values and memory of weights changed by the forward",
    "a buffer that takes the graph into itself",
    "parts that are not registered",
    "structured inputs that are written into",
    "spectral norm and weight norm of old",
}
ALL = SMALL | RELEASED


def cases(makes: dict[str, Make]) -> pytest.MarkDecorator:
    rows = [
        pytest.param(make, id=name, marks=() if name in ALWAYS else pytest.mark.zoo) for name, make in makes.items()
    ]
    return pytest.mark.parametrize("make", rows)


def test_there_are_forty_models() -> None:
    assert len(ALL) >= 40
    assert set(SMALL) >= ALWAYS


@contextlib.contextmanager
def untouched(make: Make) -> Iterator[tuple[nn.Module, Inputs]]:
    """A model with inputs, which what happens inside must not change."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own
        model, given = make()
        before = Footprint(model, given.args, given.kwargs)
        try:
            yield model, given
            gc.collect()
            before.assert_same(Footprint(model, given.args, given.kwargs))
        finally:
            torch.set_default_dtype(torch.float32)
            torch.use_deterministic_algorithms(False)
            torch.set_grad_enabled(True)


@contextlib.contextmanager
def watching(heard: Callable[[nn.Module, Any], None]) -> Iterator[None]:
    """Call ``heard`` with the output of each module that has run."""
    handle = module_hooks.register_module_forward_hook(lambda module, args, output: heard(module, output))
    try:
        yield
    finally:
        handle.remove()


@cases(ALL)
def test_nothing_changes_and_nothing_is_kept_alive(make: Make) -> None:
    seen: list[StorageWeakRef] = []

    def collect(module: nn.Module, output: Any) -> None:
        strided = [x for x in tensors_in(output) if x.layout is torch.strided]
        seen.extend(StorageWeakRef(x.untyped_storage()) for x in strided if x.untyped_storage()._cdata not in own)

    with untouched(make) as (model, given):
        own = Footprint(model, given.args, given.kwargs).storages()
        with watching(collect):
            found = measure(model, given, seeds=2)
        gc.collect()
        assert seen
        assert found[1].by_op
        assert [reference for reference in seen if not reference.expired()] == []


@cases(SMALL)
def test_a_deep_measurement_changes_nothing(make: Make) -> None:
    with untouched(make) as (model, given):
        _, signals = measure(model, given, seeds=1, deep=True)
        assert signals.deep is not None
        # what cannot be trained for two steps has no learning rates; the others did move their weights
        fits = signals.deep.learning.fits if signals.deep.learning is not None else ()
        assert signals.deep.failed or any(fit.last != fit.first for fit in fits)


@cases(SMALL)
def test_a_prediction_changes_nothing(make: Make) -> None:
    with untouched(make) as (model, given):
        assert check_model(model, given, probe=False).signals is not None


@cases(ALL)
def test_an_error_in_the_middle_of_the_forward_pass_leaves_nothing_behind(make: Make) -> None:
    with untouched(make) as (model, given):
        calls = 0

        def fail(module: nn.Module, output: Any) -> None:
            nonlocal calls
            calls += 1
            if calls >= 2:
                raise ValueError("enough")

        with watching(fail), pytest.raises(TargetError, match="enough"):
            measure(model, given, seeds=2)


@cases(ALL)
def test_ctrl_c_in_the_backward_pass_leaves_nothing_behind(make: Make) -> None:
    def stop(grad: torch.Tensor) -> None:
        raise KeyboardInterrupt

    def listen(module: nn.Module, output: Any) -> None:
        for value in tensors_in(output):
            if value.grad_fn is not None:
                value.grad_fn.register_prehook(lambda grads: stop(grads[0]))

    with untouched(make) as (model, given), watching(listen), pytest.raises(KeyboardInterrupt):
        measure(model, given, seeds=2)


@cases(SMALL)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_loss_leaves_nothing_behind(make: Make, error: type[BaseException]) -> None:
    def loss(output: object) -> torch.Tensor:
        raise error("enough")

    with untouched(make) as (model, given), pytest.raises((TargetError, error)):
        measure(model, given, seeds=2, loss=loss)


@cases(SMALL)
def test_an_error_in_the_backward_pass_leaves_nothing_behind(make: Make) -> None:
    def loss(output: object) -> torch.Tensor:
        return Fails.apply(tensors_in(output)[0].sum())

    with untouched(make) as (model, given), pytest.raises((TargetError, ValueError), match="enough"):
        measure(model, given, seeds=2, loss=loss)


def test_ctrl_c_in_a_deep_measurement_leaves_nothing_behind() -> None:
    steps = 0

    def stop(optimiser: object, args: object, keywords: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt

    handle = register_optimizer_step_post_hook(stop)
    try:
        with untouched(SMALL["state of every kind"]) as (model, given), pytest.raises(KeyboardInterrupt):
            measure(model, given, seeds=1, deep=True)
    finally:
        handle.remove()
    assert steps == 3  # the weights did move


def test_lazy_layers_get_their_shapes_and_nothing_else_changes() -> None:
    torch.manual_seed(0)
    model, given = lazy()
    known = (model.fc, model.head, model.known, model.count)
    before = Footprint(nn.Identity(), *known, *given.args)
    measure(model, given, seeds=1)
    before.assert_same(Footprint(nn.Identity(), *known, *given.args), but="model")
    assert model.late.weight.shape == (8, 32)
    assert model.norm.num_batches_tracked == 0  # the pass that gave it its shape has not counted
    assert torch.equal(model.norm.running_mean, torch.zeros(4))
    again = Footprint(model, *given.args)
    measure(model, given, seeds=2, deep=True)
    again.assert_same(Footprint(model, *given.args))


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode", "autocast"])
def test_the_mode_around_a_measurement_is_kept(mode: str) -> None:
    around: dict[str, Callable[[], Any]] = {
        "no_grad": torch.no_grad,
        "inference_mode": torch.inference_mode,
        "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    }
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    with around[mode](), untouched(lambda: (model, row())) as (_, given):  # inference mode: no tensor with a gradient
        _, signals = measure(model, given, seeds=2)
    assert all(signal.grad_rms for signal in signals.trunk)


def test_a_graph_of_an_earlier_pass_is_still_good() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    pending = model(torch.randn(2, 4)).sum()
    measure(model, Inputs(torch.randn(2, 4)), seeds=1)
    pending.backward()
    assert model[0].weight.grad is not None
