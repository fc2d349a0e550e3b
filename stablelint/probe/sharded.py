"""One measurement by many processes: of a module under ``fully_shard``, or with tensor-parallel layers.

Hooks keep the numbers of their own process and a bounded sample of the values. At the end of a pass the processes
exchange them, in the order of the ops, and every one merges the same numbers into the same readings. Two kinds of
processes are told apart:

- under ``fully_shard`` each has its own part of the batch. What is measured is that of the whole batch, the parts one
  after the other, and of a loss that is the mean of the processes' losses, whose gradient FSDP averages;
- tensor-parallel ones have the same batch and a shard of the weights and of some activations.

A mean over all elements is that over all processes, whether they hold copies or pieces; where pieces must be put
together first, copies are known by being equal. Outside of a distributed run there are no groups, and nothing happens.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from stablelint.errors import TraceTargetError
from stablelint.graph import Graph
from stablelint.graph.families import RESHAPES
from stablelint.inputs import Inputs
from stablelint.probe.gauge import Gauge
from stablelint.probe.layout import joined, merge, together
from stablelint.probe.shared_gauge import SharedGauge
from stablelint.probe.tensor_statistics import rms
from stablelint.trace import shards, tensors_in

T = TypeVar("T")

#: Elements of one activation that are exchanged, of all processes together and of each at least: small ones whole.
SAMPLE, LEAST = 1 << 18, 1 << 10
#: Ops whose samples are exchanged at once.
_AT_ONCE = 32
#: Heads of fused attention that are looked at.
_HEADS = 4


@dataclass(frozen=True)
class Ranks:
    """The process groups that hold a model together; with none, this process is alone.

    ``data`` are those whose processes have parts of the batch, ``shards`` those that share a batch. ``parts`` is the
    number of different parts, 1 where all processes were given the same batch, and ``part`` this process's own.
    """

    data: tuple[Any, ...] = ()
    shards: tuple[Any, ...] = ()
    parts: int = 1
    part: int = 0

    @classmethod
    def of(cls, model: nn.Module, inputs: Inputs) -> Ranks:
        """The processes that ``model`` is spread over, each of which calls this with its own inputs."""
        if not shards.is_sharded(model):
            return cls()
        found = cls(tuple(shards.data_groups(model)), tuple(shards.model_groups(model)))
        given = [part[0] for part in found.gather(_digest(inputs))]
        if len(set(given)) == 1:
            return found
        return cls(found.data, found.shards, len(given), shards.batch_part(model))

    @property
    def alone(self) -> bool:
        """Whether there is nobody to exchange anything with."""
        return not self.data and not self.shards

    def gauge(self, batch: int | None) -> Gauge:
        """The instrument of one pass, for inputs of so many samples in this process."""
        if self.alone:
            return Gauge(batch)
        count = math.prod(group.size() for group in (*self.data, *self.shards))
        return SharedGauge(batch, room=max(SAMPLE // count, LEAST))

    def gather(self, value: T) -> list[list[T]]:
        """The ``value`` of every process: a list over the parts of the batch of lists over shards."""
        return _gathered(self.data, _gathered(self.shards, value))

    def rows(self, count: int) -> tuple[int, int]:
        """Where the ``count`` samples of this process begin in the whole batch, and how many there are in all."""
        if self.parts == 1:
            return 0, count
        counts = [part[0] for part in self.gather(count)]
        return sum(counts[: self.part]), sum(counts)

    def sizes(self, tensors: Sequence[torch.Tensor | None]) -> list[float | None]:
        """The rms of each tensor (a parameter or its gradient) over all processes; None for None."""
        values = [None if tensor is None else shards.own(tensor) for tensor in tensors]
        mine = [None if value is None else (value.numel(), rms(value)) for value in values]
        everyone = [mine] if self.alone else [each for part in self.gather(mine) for each in part]
        known = [[size for each in everyone if (size := each[at]) is not None] for at in range(len(tensors))]
        return [together(sizes) if sizes else None for sizes in known]

    def merge_forward(self, gauge: Gauge, graph: Graph) -> None:
        """Put the readings of all processes together after the forward pass, before anything is decided on them.

        Raises TraceTargetError in every process when they ran different ops.
        """
        if not isinstance(gauge, SharedGauge):
            return
        names = [op.name for op in graph]
        everyone = self.gather(
            (hashlib.sha256(" ".join(names).encode()).hexdigest(), len(names), sorted(gauge.readings))
        )
        different = {str(found): found for part in everyone for found in part}.values()
        if len(different) > 1:
            counts = " and ".join(str(count) for _, count, _ in different)
            raise TraceTargetError(
                f"the processes ran different ops ({counts} of them), so they cannot be measured together; "
                "give every process inputs that take the same way through the model"
            )
        readings = self.gather({index: (reading, gauge.pieces[index]) for index, reading in gauge.readings.items()})
        for index, reading in gauge.readings.items():
            split = self.parts > 1 and graph.is_data(graph.ops[index])
            gauge.layouts[index] = merge([[each[index] for each in part] for part in readings], reading, split=split)
        batch = None if gauge.batch is None else self.rows(gauge.batch)[1]
        looked = [i for i, reading in sorted(gauge.readings.items()) if reading.finite and reading.name not in RESHAPES]
        for index, value in self._joined(looked, gauge):
            Gauge.look(gauge, gauge.readings[index], value, batch)
        for index, inputs in sorted(gauge.fused.items()):
            if not gauge.readings[index].finite:
                del gauge.fused[index]  # some process has not kept it
                continue
            heads = self.gather(tuple(_first_heads(value) for value in _with_mask(inputs)))
            gauge.fused[index] = tuple(
                joined([[each[at] for each in part] for part in heads], gauge.layouts[index])
                for at in range(len(heads[0][0]))
            )

    def sink(self, gauge: Gauge, graph: Graph) -> torch.Tensor | None:
        """The output of the network itself, from which a further backward pass may start; None where none can."""
        if graph.head is None or (self.data and graph.head not in graph.outputs):
            return None  # fully_shard prepares for a backward pass from what the model returns only
        found = gauge.handed_on(graph.head) if isinstance(gauge, SharedGauge) else gauge.outputs.get(graph.head)
        return None if found is None else shards.whole(found)

    def merge_backward(self, gauge: Gauge) -> None:
        """The same for the gradients, after the backward pass."""
        if not isinstance(gauge, SharedGauge):
            return
        everyone = self.gather((gauge.readings, gauge.backward_order, gauge.steps, gauge.pieces))
        flat = [each for part in everyone for each in part]
        gauge.backward_order[:] = flat[0][1]
        for index, reading in gauge.readings.items():
            readings = [each[0][index] for each in flat]
            sizes = [(each[3][index].numel, each[0][index].grad_rms or 0.0) for each in flat]
            if all(one.grad_rms is None for one in readings):
                continue
            # the loss is the mean over the parts of the batch, and so is a scalar on the way to it
            reading.grad_rms = together(sizes) / (1 if gauge.pieces[index].scalar else self.parts)
            reading.grad_finite = all(one.grad_finite for one in readings)
        for index in sorted({index for each in flat for index in each[2]}):
            steps = zip(*(each[2][index] for each in flat if index in each[2]), strict=True)
            Gauge.look_at_steps(gauge, index, [together([(1, size) for size in step]) for step in steps])
        looked = [index for index, reading in sorted(gauge.readings.items()) if reading.alike]
        for index, value in self._joined(looked, gauge):
            Gauge.look_at_gradient(gauge, gauge.readings[index], value)

    def _joined(self, indices: Sequence[int], gauge: SharedGauge) -> Iterator[tuple[int, torch.Tensor]]:
        """The samples of all processes put together, of the ops that all of them have one of; forgets them."""
        for start in range(0, len(indices), _AT_ONCE):
            chosen = indices[start : start + _AT_ONCE]
            everyone = self.gather(
                {index: gauge.samples.pop(index).cpu() for index in chosen if index in gauge.samples}
            )
            for index in chosen:
                if all(index in each for part in everyone for each in part):
                    yield index, joined([[each[index] for each in part] for part in everyone], gauge.layouts[index])


def refuse(model: nn.Module, what: str) -> None:
    """Raise TraceTargetError for what goes by the numbers of one process, when ``model`` is spread over several."""
    if shards.is_sharded(model):
        raise TraceTargetError(
            f"{what} need all weights in one process, and those of this model are spread over several; "
            "measure it before it is sharded"
        )


def _gathered(groups: Sequence[Any], value: Any) -> list[Any]:
    """What every process of the groups has, the last group varying fastest."""
    values = [value]
    for group in reversed(groups):
        found: list[Any] = [None] * group.size()
        torch.distributed.all_gather_object(found, values, group=group)
        values = [each for part in found for each in part]
    return values


def _digest(inputs: Inputs) -> str:
    found = hashlib.sha256()
    for tensor in tensors_in([inputs.args, inputs.kwargs]):
        value = shards.own(tensor)
        found.update(f"{tuple(value.shape)} {value.dtype}".encode())
        if value.layout is torch.strided and not value.is_nested:
            found.update(value.resolve_conj().resolve_neg().reshape(-1).view(torch.uint8).cpu().numpy().tobytes())
    return found.hexdigest()


def _with_mask(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Query, key, (query again) and mask of fused attention, the mask with all samples and heads."""
    query, key, *rest = (shards.own(value) for value in inputs)
    masks = [mask.expand(*query.shape[:-2], *mask.shape[-2:]) for mask in rest[1:2]]
    return (query, key, query, *masks) if masks else (query, key)


def _first_heads(value: torch.Tensor) -> torch.Tensor:
    """As much of (batch, heads, ...) as the first heads of all processes can be among."""
    if value.dim() < 4:
        return value[:_HEADS].cpu()
    return value[: 1 if value.shape[1] >= _HEADS else _HEADS, :_HEADS].cpu()
