"""The user's own batches and losses in a measurement, and what is said where they cannot be used."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from footprint import Footprint, process
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from stablelint.api import check_model
from stablelint.config import Config
from stablelint.errors import InputTargetError, LossTargetError, TraceTargetError, UsageError
from stablelint.inputs import Inputs
from stablelint.probe import measure


class Heard(nn.Module):
    """Remembers the means of the batches that it was given, outside of itself."""

    def __init__(self, heard: list[float]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        self.note = heard.append

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.note(round(float(x.detach().mean()), 3))
        return self.body(x)


def batches(count: int = 5) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for number in range(count):
        yield number + 0.1 * torch.randn(6, 4).clamp(-1, 1), torch.arange(6) % 3


def seeds_heard(heard: list[float]) -> list[int]:
    """The batches in the order in which the model was called with them, each call once."""
    return list(dict.fromkeys(round(mean) for mean in heard))


@pytest.mark.parametrize(("count", "expected"), [(None, [0, 1, 2]), (1, [0]), (2, [0, 1]), (3, [0, 1, 2])])
def test_every_seed_has_its_batch(count: int | None, expected: list[int]) -> None:
    heard: list[float] = []
    _, signals = measure(Heard(heard), batches(), seeds=3, batches=count)
    assert signals.seeds == 3
    assert seeds_heard(heard) == expected


def test_a_short_loader_begins_again_and_a_list_is_a_loader() -> None:
    heard: list[float] = []
    _, signals = measure(Heard(heard), list(batches(2)), seeds=3)
    assert (signals.seeds, seeds_heard(heard)) == (3, [0, 1])


def test_a_loader_beside_rebuild_gives_the_data_and_rebuild_the_weights() -> None:
    heard: list[float] = []
    built: list[int] = []

    def rebuild(seed: int) -> tuple[nn.Module, Inputs]:
        built.append(seed)
        return Heard(heard), Inputs(torch.full((6, 4), 9.0))

    measure(Heard(heard), batches(), rebuild=rebuild, seeds=2)
    assert (seeds_heard(heard), built) == ([0, 1], [1])


def test_a_prediction_takes_the_first_batch_only() -> None:
    heard: list[int] = []
    loader = (heard.append(number) or (number + torch.randn(6, 4), torch.zeros(6)) for number in range(4))
    report = check_model(nn.Linear(4, 3), loader, probe=False, batches=3)
    assert report.ok
    assert heard == [0]


def test_a_loss_has_the_target_of_its_own_batch() -> None:
    class Labelled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.fc(image) + image.mean()

    data = [{"image": torch.full((6, 4), 1.0 * n), "label": torch.full((6,), n)} for n in range(3)]
    seen: list[tuple[int, int]] = []

    def loss(output: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append((int(batch["label"][0]), int(batch["image"][0, 0])))
        batch["label"] += 1  # its own copy
        return F.cross_entropy(output, batch["label"] - 1)

    check_model(Labelled(), data, probe=True, loss=loss)
    assert set(seen) == {(0, 0), (1, 1), (2, 2)}
    measure(Labelled(), data, loss=lambda output, label: F.cross_entropy(output, label), seeds=3)
    assert [int(each["label"][0]) for each in data] == [0, 1, 2]


def test_the_loss_decides_the_gradient() -> None:
    torch.manual_seed(0)
    model, x, y = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), torch.randn(6, 4), torch.arange(6) % 3
    F.cross_entropy(model(x), y).backward()
    expected = {name: float(p.grad.square().mean().sqrt()) for name, p in model.named_parameters()}
    model.zero_grad()
    for given in (Inputs(x, y), [(x, y)], DataLoader(TensorDataset(x, y), batch_size=6)):
        _, signals = measure(model, given, loss=nn.CrossEntropyLoss(), seeds=1)
        found = {parameter.name: parameter.grad_rms for parameter in signals.parameters}
        assert found == pytest.approx(expected, rel=1e-5)


def test_a_transformers_model_has_its_own_loss_when_the_batch_has_labels() -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=50, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    model = transformers.GPT2LMHeadModel(config)
    ids = torch.randint(3, 50, (2, 8))
    batch = transformers.BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids})
    model.train()(**batch).loss.backward()
    expected = {name: float(p.grad.square().mean().sqrt()) for name, p in model.named_parameters()}
    model.zero_grad()
    for given in ([batch], Inputs(**batch)):
        graph, signals = measure(model, given, seeds=1)
        assert graph.ops[graph.flow.sink].shape == ()
        found = {parameter.name: parameter.grad_rms for parameter in signals.parameters}
        assert found == pytest.approx(expected, rel=1e-4)
    _, without = measure(model, [{"input_ids": ids}], seeds=1)
    assert {p.name: p.grad_rms for p in without.parameters} != pytest.approx(expected, rel=0.5)
    _, other = measure(model, [batch], seeds=1, loss=lambda output, labels: 10 * output.loss)  # the user's goes first
    assert {p.name: p.grad_rms / 10 for p in other.parameters} == pytest.approx(expected, rel=1e-4)


class Drawing(Dataset):
    """Draws from every generator that there is, and counts."""

    def __init__(self) -> None:
        self.generator, self.count, self.seen = np.random.default_rng(0), 0, []

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.count += 1
        self.seen.append(index)
        return torch.randn(4) + random.random() + np.random.random() + self.generator.random(), index % 3


@pytest.mark.parametrize("probe", [True, False])
def test_a_loader_and_the_random_states_are_left_as_they_were(probe: bool) -> None:
    data = Drawing()
    loader = DataLoader(data, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(3))
    model = nn.Linear(4, 3)
    before, around = Footprint(model, data, loader.generator), process()
    check_model(model, loader, probe=probe, loss=nn.CrossEntropyLoss())
    before.assert_same(Footprint(model, data, loader.generator))
    assert process() == around


def failing(after: int) -> Iterator[torch.Tensor]:
    yield from torch.randn(after, 6, 4)
    raise OSError("the disk is gone")


NET = nn.Sequential(nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("inputs", "options", "error", "sentence"),
    [
        (list, {}, InputTargetError, "the loader is empty: it gives no batch"),
        (lambda: failing(0), {}, InputTargetError, "the loader raises OSError: the disk is gone at batch 1"),
        (lambda: failing(2), {}, InputTargetError, "the loader raises OSError: the disk is gone at batch 3"),
        (lambda: [torch.randn(6, 5)], {}, TraceTargetError, "the forward pass fails: RuntimeError: mat1 and mat2"),
        (lambda: [(1, 2, 3)], {}, InputTargetError, r"the batch holds 2 items for Sequential.forward\(input\)"),
        (lambda: Inputs(torch.randn(6, 4)), {"batches": 2}, UsageError, "batches=2 counts the batches of a loader"),
        (lambda: Inputs(torch.randn(6, 4)), {"loss": F.mse_loss}, InputTargetError, "the loss takes a target"),
        (
            batches,
            {"loss": lambda output: output},
            LossTargetError,
            r"gives a tensor of shape \(6, 3\), not one number",
        ),
        (batches, {"loss": lambda output: 0.5}, LossTargetError, "gives a float, not a tensor with one number"),
        (batches, {"loss": lambda output: output.detach().sum()}, LossTargetError, "the loss has no gradient"),
        (batches, {"loss": lambda a, y: a @ y}, LossTargetError, r"the loss fails at .*\.py:\d+: RuntimeError: .*"),
        (batches, {"loss": lambda a, b, c: a}, InputTargetError, r"the loss takes \(a, b, c\); write it as"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    inputs: Any, options: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence) as caught:
        check_model(NET, inputs(), config=Config(seeds=3), probe=True, **options)
    assert "\n" not in str(caught.value)


def test_a_deep_measurement_takes_loss_and_batch() -> None:
    _, signals = measure(NET, batches(), loss=nn.CrossEntropyLoss(), seeds=2, deep=True)
    assert signals.deep is not None
    assert signals.deep.failed == ()
    assert signals.deep.learning is not None
    assert signals.deep.learning.own_loss  # the loss itself is minimised


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_batches_go_to_the_model_and_its_random_state_is_restored() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 3)).cuda()
    before = Footprint(model)
    _, signals = measure(model, batches(), loss=nn.CrossEntropyLoss(), seeds=2, deep=True)
    before.assert_same(Footprint(model))
    assert signals.seeds == 2


def test_more_draws_take_more_batches() -> None:
    seen: list[int] = []

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.append(int(target[0]))
        return output.square().mean()

    batches = [(torch.randn(4, 8), torch.full((4,), number)) for number in range(10)]
    measure(nn.Linear(8, 2), batches, seeds=3, settled=lambda signals: signals.seeds >= 6, loss=loss, first_seed=1)
    assert list(dict.fromkeys(seen)) == [0, 1, 2, 3, 4, 5]
    seen.clear()
    measure(nn.Linear(8, 2), batches, seeds=3, batches=2, settled=lambda signals: signals.seeds >= 6, loss=loss)
    assert set(seen) == {0, 1}
