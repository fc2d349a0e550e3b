"""The probe of a model on a GPU; these tests run where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sharded_models import Transformer, fully, ids, seeded
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh

from stablelint.errors import TraceTargetError
from stablelint.inputs import Inputs
from stablelint.probe import measure
from stablelint.signals import Signals

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # 10 bits of mantissa in convolutions


def convolutional() -> nn.Module:
    first = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    return nn.Sequential(*first, nn.Conv2d(16, 16, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(16 * 64, 8))


CASES = {
    "transformer": (Transformer, ids()),
    "a branch at zero": (lambda: Transformer(closed=True), ids()),
    "convolutional": (convolutional, torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))),
}
every_case = pytest.mark.parametrize(("build", "batch"), CASES.values(), ids=CASES.keys())


def assert_near(found: Signals, expected: Signals, rel: float, among: tuple[str, ...]) -> None:
    assert [row.name for row in found.rows] == [row.name for row in expected.rows]
    for one, other in zip(found.rows, expected.rows, strict=True):
        for name in among:
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=rel, abs=1e-5), (one.label, name)
    assert found.awakened == expected.awakened
    assert found.discrimination == pytest.approx(expected.discrimination, rel=rel)


STATISTICS = (
    "rms",
    "grad_rms",
    "sensitivity",
    "similarity",
    "token_similarity",
    "dead",
    "saturated",
    "peak",
    "entropy",
)


@every_case
def test_a_gpu_measures_what_the_cpu_does(build, batch: torch.Tensor) -> None:
    _, expected = measure(seeded(build), Inputs(batch), seeds=1)
    _, found = measure(seeded(build).cuda(), Inputs(batch.cuda()), seeds=1)
    assert_near(found, expected, 1e-4, STATISTICS)


@every_case
def test_autocast_around_the_call_is_measured_and_put_back(build, batch: torch.Tensor) -> None:
    model = seeded(build).cuda()
    _, full = measure(model, Inputs(batch.cuda()), seeds=1)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        graph, half = measure(model, Inputs(batch.cuda()), seeds=1)
        assert torch.is_autocast_enabled("cuda")
        assert torch.get_autocast_dtype("cuda") is torch.bfloat16
        assert torch.is_autocast_cache_enabled()
        assert torch.is_grad_enabled()
    assert "bfloat16" in {op.dtype for op in graph if op.name in ("linear", "conv")}
    assert_near(half, full, 0.1, ("rms", "grad_rms"))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_gpu_is_left_as_it_was_after_an_error(error: type[BaseException]) -> None:
    class Stops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            nn.functional.dropout(self.norm(self.fc(x)))
            torch.set_autocast_enabled("cuda", False)
            torch.set_grad_enabled(False)
            raise error("enough")

    model, batch = Stops().cuda(), torch.randn(4, 8, device="cuda")
    values, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.cuda.get_rng_state()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        with pytest.raises((error, TraceTargetError)):
            measure(model, Inputs(batch))
        assert torch.is_autocast_enabled("cuda")
        assert torch.is_grad_enabled()
    assert all(torch.equal(values[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.cuda.get_rng_state())


def test_a_model_under_fully_shard_on_a_gpu(tmp_path: Path) -> None:
    _, expected = measure(seeded(Transformer).cuda(), Inputs(ids().cuda()), seeds=1)
    torch.cuda.set_device(0)
    distributed.init_process_group("nccl", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        model = fully(seeded(Transformer).cuda(), init_device_mesh("cuda", (1,)))
        _, found = measure(model, Inputs(ids().cuda()), seeds=1)
    finally:
        distributed.destroy_process_group()
    assert_near(found, expected, 1e-4, STATISTICS)
