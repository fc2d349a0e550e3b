"""What a recorded pass tells about further ones, so that they cost little more than plain ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from stablelint.graph import Graph
from stablelint.graph.families import RECURRENT
from stablelint.inputs import Inputs
from stablelint.probe.gauge import Gauge, Reading
from stablelint.trace import Trace
from stablelint.trace.replay import replay, replayable

#: Ops whose operands tell something that their result does not.
_ASKED = RECURRENT | {"scaled_dot_product_attention"}

#: Blocks of the trunk that are looked at again, evenly over its depth where it has more.
_MOST = 16
#: Of those, how many at most are compared between samples: a slope over depth needs no more.
_COMPARED = 4
#: Shares and peaks from which an op is looked at again; notes and warnings begin at several times as much.
_DEAD, _SATURATED, _PEAKED = 0.2, 0.05, 0.5


@dataclass(frozen=True)
class Known:
    """A recorded run without its output, the ops to look at in the next one, the axis of their units, and its size.

    Of the ``compared`` ones it is also read how alike samples and positions are, of the ``dying`` ones what is dead.
    """

    recorded: Trace
    sites: frozenset[int]
    compared: frozenset[int]
    dying: frozenset[int]
    channels: Mapping[int, int]
    batch_first: frozenset[int]
    elements: int

    @classmethod
    def of(cls, recorded: Trace, gauge: Gauge) -> Known | None:
        """None where an op to look at is the result of no call that can be found again."""
        chosen = frozenset(sites(recorded.graph, gauge.readings))
        if not replayable(recorded, chosen):
            return None
        first = frozenset(op.index for op in recorded.graph if op.attrs.get("batch_first"))
        channels = {index: reading.channels for index, reading in gauge.readings.items() if index in chosen}
        elements = sum(reading.numel for reading in gauge.readings.values())
        trunk = [index for index in recorded.graph.flow.trunk if index in chosen]
        compared = frozenset(trunk[:: max(math.ceil(len(trunk) / _COMPARED), 1)]) | frozenset(trunk[-1:])
        dying = frozenset(index for index in chosen if (gauge.readings[index].dead or 0.0) > _DEAD)
        return cls(replace(recorded, output=None), chosen, compared, dying, channels, first, elements)

    def again(self, model: nn.Module, inputs: Inputs, gauge: Gauge) -> Trace:
        """Run ``model`` under ``gauge``; what fails is raised, also where it is not the model that was recorded."""
        gauge.channels, gauge.compared, gauge.dying = self.channels, self.compared, self.dying
        gauge.batch_first = self.batch_first
        return replace(self.recorded, output=replay(model, inputs, self.recorded, self.sites, gauge, _ASKED))


def sites(graph: Graph, readings: Mapping[int, Reading]) -> set[int]:
    """The ops that a verdict may turn on: both ends of the trunk's blocks, and where units are dead, saturated, peaked.

    ``readings`` are those of the first pass. What is far from every threshold there needs no second look: shares and
    peaks of wide layers differ by a few percent between draws.
    """
    flow = graph.flow
    blocks: dict[int, list[int]] = {}
    for index in flow.trunk:
        if index in readings:
            blocks.setdefault(flow.block[index], []).append(index)
    trunk = [blocks[block] for block in sorted(blocks)]
    places = {round(at * (len(trunk) - 1) / (_MOST - 1)) for at in range(_MOST)} if len(trunk) > _MOST else None
    chosen = {
        index
        for place, block in enumerate(trunk)
        if places is None or place in places
        for index in (block[0], block[-1])
    }
    attention = {found.softmax.index for found in graph.attentions() if found.softmax is not None}
    chosen |= {index for index, reading in readings.items() if index in flow.signal and _notable(reading)}
    chosen |= {index for index in attention if index in readings and (readings[index].peak or 0.0) > _PEAKED}
    return chosen | {index for index in (flow.sink, graph.head) if index in readings and index is not None}


def _notable(reading: Reading) -> bool:
    if reading.name in RECURRENT or reading.grad_rms == 0 or reading.rms == 0:  # a branch that is dropped at random
        return True
    fused = (reading.peak or 0.0) > _PEAKED and reading.name in _ASKED
    return fused or (reading.dead or 0.0) > _DEAD or (reading.saturated or 0.0) > _SATURATED
