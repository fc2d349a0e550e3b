"""What each of two processes that share a model checks; run by :func:`in_two` in processes of their own."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from failing import Fails
from sharded_models import Recurrent, Transformer, fully, ids, in_both_ways, seeded, tensor_parallel
from torch import distributed, multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from stablelint.errors import TraceTargetError
from stablelint.inputs import Inputs
from stablelint.probe import measure
from stablelint.probe.curvature import curvature
from stablelint.signals import Signals
from stablelint.trace import trace

#: Sums are taken in another order, and float32 has 1.2e-7: a few ops later 1e-5 is left.
CLOSE = 1e-5
#: Seconds until a hanging pair is killed, and until a collective that one of them misses fails.
PATIENCE, COLLECTIVE = 180, 60


def in_two(check: Callable[[int], None], folder: Path) -> None:
    """Run ``check(rank)`` in two processes that know each other by a file, and raise what one of them raises."""
    # one server imports what all of them need, and no thread of this process is forked
    get_context("forkserver").set_forkserver_preload(
        ["torch.distributed.fsdp", "torch.distributed.tensor.parallel", "stablelint.probe", "pytest"]
    )
    context = multiprocessing.start_processes(
        _run, args=(check, str(folder / "store")), nprocs=2, join=False, start_method="forkserver"
    )
    end = time.monotonic() + PATIENCE
    while not context.join(timeout=1):
        if time.monotonic() > end:
            for process in context.processes:
                process.kill()
            pytest.fail(f"two processes did not finish within {PATIENCE} s")


def _run(rank: int, check: Callable[[int], None], store: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=COLLECTIVE)
    )
    try:
        check(rank)
    finally:
        distributed.destroy_process_group()


def assert_close(found: Signals, expected: Signals) -> None:
    """Every number of every row, parameter and summary."""
    _compare("signals", found, expected)
    for one, other in zip(found.rows, expected.rows, strict=True):
        _compare(one.label, one, other)
    for mine, whole in zip(found.parameters, expected.parameters, strict=True):
        _compare(mine.name, mine, whole)
    _compare("summary", found.summary(), expected.summary())


def _compare(where: str, one: Any, other: Any) -> None:
    pairs = [vars(x) if hasattr(x, "__dict__") else x for x in (one, other)]
    if dataclasses.is_dataclass(one) and not hasattr(one, "__dict__"):
        pairs = [{item.name: getattr(x, item.name) for item in dataclasses.fields(x)} for x in (one, other)]
    for name, value in pairs[0].items():
        if isinstance(value, float):
            assert value == pytest.approx(pairs[1][name], rel=CLOSE, abs=1e-7), (where, name)
        elif name not in ("rows", "parameters"):
            assert value == pairs[1][name], (where, name)


def check_equal(rank: int) -> None:
    """Every way to spread a model gives what one process measures on the whole batch, in every process."""
    mesh = init_device_mesh("cpu", (2,))
    ways: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, Any], nn.Module], tuple[Any, ...], bool]] = {
        "fully_shard": (Transformer, fully, (ids(),), True),
        "fully_shard, a branch at zero": (lambda: Transformer(closed=True), fully, (ids(),), True),
        "fully_shard, recurrent, its own loss": (
            Recurrent,
            fully,
            (torch.randn(4, 12, 4, generator=torch.Generator().manual_seed(2)), ids()[:, 0] % 5),
            True,
        ),
        "tensor parallel, a branch at zero": (lambda: Transformer(closed=True), tensor_parallel, (ids(),), False),
        "sequence parallel": (
            lambda: Transformer(positions=False),
            lambda model, mesh: tensor_parallel(model, mesh, sequence=True),
            (ids(),),
            False,
        ),
        "both": (Transformer, in_both_ways, (ids(),), True),
    }
    for name, (build, spread, batch, parts) in ways.items():
        graph, expected = measure(seeded(build), Inputs(*batch), seeds=1)
        mine = [x.chunk(2)[rank] if parts else x for x in batch]
        found_graph, found = measure(spread(seeded(build), mesh), Inputs(*mine), seeds=1)
        assert [op.name for op in found_graph] == [op.name for op in graph], name
        assert found.discrimination is not None, name
        try:
            assert_close(found, expected)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
        everyone: list[Any] = [None, None]
        distributed.all_gather_object(everyone, repr(found))
        assert everyone[0] == everyone[1], name


class Halves(nn.Module):
    """Does to the negative part of the data what ``bad`` says."""

    def __init__(self, bad: str) -> None:
        super().__init__()
        self.bad, self.fc = bad, nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.fc(x)
        if self.bad == "branch" and bool((x < 0).all()):
            h = h * 2
        if self.bad == "log":
            h = h + x.log()
        return self.fc(h)


def check_said(rank: int) -> None:
    """What only one process meets is said by all, and what needs one process is refused in one sentence."""
    mesh = init_device_mesh("cpu", (2,))
    x = torch.rand(4, 4) + 0.1
    mine = Inputs(-x if rank else x)
    _, found = measure(fully_shard(Halves("log"), mesh=mesh), mine, seeds=1)
    assert found.nonfinite is not None
    assert (found.nonfinite.name, found.nonfinite.what) == ("log", "NaN")
    with pytest.raises(TraceTargetError, match=r"ran different ops \(\d+ and \d+ of them\)"):
        measure(fully_shard(Halves("branch"), mesh=mesh), mine, seeds=1)
    healthy = fully_shard(Halves(""), mesh=mesh)
    with pytest.raises(TraceTargetError, match="the deep measurements need all weights in one process"):
        measure(healthy, mine, deep=True)
    with pytest.raises(TraceTargetError, match="curvature and step sizes need all weights in one process"):
        curvature(healthy, mine)
    assert any("spread over processes" in remark for remark in trace(healthy, mine).remarks)
    # the same batch everywhere is that batch, once
    same = Inputs(torch.ones(4, 4).cumsum(0))
    _, once = measure(fully_shard(seeded(lambda: Halves("")), mesh=mesh), same, seeds=1)
    assert_close(once, measure(seeded(lambda: Halves("")), same, seeds=1)[1])


def _state(model: nn.Module) -> dict[str, Any]:
    def values(tensor: torch.Tensor | None) -> Any:
        found = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        return None if found is None else found.tolist()

    return {
        "tensors": {name: (id(p), values(p), values(p.grad)) for name, p in model.named_parameters()},
        "gathered": [type(p) for p in model.parameters()],
        "hooks": [
            (list(m._forward_hooks), list(m._forward_pre_hooks), list(m._backward_hooks)) for m in model.modules()
        ],
        "random": torch.get_rng_state().tolist(),
        "modes": (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), model.training),
    }


def _step(model: nn.Module, batch: torch.Tensor) -> list[Any]:
    for parameter in model.parameters():
        parameter.grad = None
    model(batch).square().mean().backward()
    return [parameter.grad.to_local().tolist() for parameter in model.parameters()]


def check_restored(rank: int) -> None:
    """A sharded model is left as it was, also after an error in its forward or backward pass, and trains on."""
    model, batch = fully(seeded(Transformer), init_device_mesh("cpu", (2,))), ids().chunk(2)[rank]
    inner = model.blocks[1].forward

    def raising(error: type[BaseException], call: int) -> Callable[[torch.Tensor], torch.Tensor]:
        count = 0

        def forward(x: torch.Tensor) -> torch.Tensor:
            nonlocal count
            count += 1
            if count >= call:
                raise error("enough")
            return inner(x)

        return forward

    forwards = [inner, raising(ValueError, 1), raising(KeyboardInterrupt, 2), lambda x: Fails.apply(inner(x))]
    before = _step(model, batch)
    for forward in forwards:
        state = _state(model)
        model.blocks[1].forward = forward
        try:
            measure(model, Inputs(batch), seeds=2)
        except (TraceTargetError, ValueError, KeyboardInterrupt):
            assert forward is not inner
        else:
            assert forward is inner
        model.blocks[1].forward = inner
        assert _state(model) == state
        assert _step(model, batch) == before
    # a forward pass alone leaves the weights of the outermost module gathered, and so do we
    for parameter in model.parameters():
        parameter.grad = None
    model(batch)
    assert not isinstance(model.out.weight, DTensor)
    state = _state(model)
    measure(model, Inputs(batch), seeds=1)
    trace(model, Inputs(batch))
    assert _state(model) == state
    assert _step(model, batch)[2:-3] == before[2:-3]
    # gradients that wait for their reduction are added to after the measurement
    model.reshard()
    for parameter in model.parameters():
        parameter.grad = None
    model.set_requires_gradient_sync(False)
    model(batch).square().mean().backward()
    measure(model, Inputs(batch), seeds=1)
    model.set_requires_gradient_sync(True)
    model(batch).square().mean().backward()
    for parameter, grad in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(
            parameter.grad.to_local(), 2 * torch.tensor(grad).reshape(parameter.to_local().shape)
        )
