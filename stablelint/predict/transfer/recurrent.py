"""LSTM, GRU and plain RNN, one step or a whole layer: drawn, run and described again.

See :mod:`stablelint.predict.unrolled` for why the steps of a loop are not taken one by one. A layer that is wider or
longer than what needs to be drawn is drawn smaller: gains are kept, and what happens at the end of the sequence goes
on at the same rate before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from stablelint.predict.call import Call, NotModelled, Result
from stablelint.predict.domain import Value, iid
from stablelint.predict.gaussian import Array
from stablelint.predict.transfer.shaping import reshaped
from stablelint.predict.unrolled.cells import CELL_INPUTS, GATES, State, cell_step, layer, step_of
from stablelint.predict.unrolled.rollout import Rollout
from stablelint.predict.unrolled.tape import Node

#: Steps, units and samples that are drawn at most.
LONGEST, WIDEST, SAMPLES = 256, 192, 4
#: Draws of the weights, at least and at most: narrow layers differ more between draws, and cost less.
FEWEST, MOST = 4, 16


def cell(call: Call) -> Result:
    """One step: lstm_cell, gru_cell, rnn_cell."""
    roll = Rollout(MOST)
    given = {name: roll.leaf(value) for name in CELL_INPUTS if (value := call.optional(name)) is not None}
    state = tuple(roll.leaf(value) for value in call.several("hx"))
    nodes = cell_step(roll.tape, call.op, given, state)
    values = tuple(roll.results([(node, call.shape) for node in nodes]))
    return values if call.op.name == "lstm_cell" else values[0]


@dataclass(frozen=True, slots=True)
class _Layers:
    """The sizes of a layer op, and how much of it is drawn."""

    kind: str
    number: int
    directions: int
    time: int
    batch: int
    length: int
    shrink: int
    nonlinearity: str

    @property
    def samples(self) -> int:
        return min(self.batch, SAMPLES)

    @property
    def lead(self) -> tuple[int, int]:
        """The first two axes of what is drawn."""
        steps = min(self.length, LONGEST)
        return (self.samples, steps) if self.time == 1 else (steps, self.samples)

    def narrow(self, width: int, groups: int = 1) -> int:
        """The width that is drawn of an axis of several groups of units."""
        return groups * -(-(width // groups) // self.shrink)


def _layers(call: Call, x: Value, weights: Sequence[Value]) -> _Layers:
    time = 1 if call.attr("batch_first") and call.value("input").rank == 3 else 0
    widest = max(weight.shape[1] for weight in weights if weight.rank == 2)
    return _Layers(
        kind=call.op.name,
        number=int(call.attr("num_layers", 1)),
        directions=2 if call.attr("bidirectional") else 1,
        time=time,
        batch=x.shape[1 - time],
        length=x.shape[time],
        shrink=max(-(-widest // WIDEST), 1),
        nonlinearity=str(call.attr("nonlinearity", "tanh")),
    )


def recurrent(call: Call) -> Result:
    """A layer over time: the outputs of every step and the last state."""
    if call.attr("packed"):
        raise NotModelled("packed sequences")
    x, weights = call.value("input"), call.several("weights")
    if x.rank == 2:
        x = reshaped(x, (x.shape[0], 1, x.shape[1]))
    sizes = _layers(call, x, weights)
    roll = Rollout(_draws(weights[1].shape[1]), sizes.batch / sizes.samples, sizes.time)
    tape = roll.tape
    source = given = roll.leaf(x, (*sizes.lead, sizes.narrow(x.shape[2])))
    start = [value for value in call.several("hx") if value.power > 0]
    each = len(weights) // (sizes.number * sizes.directions)
    lasts: list[State] = []
    for number in range(sizes.number):
        outs = []
        for direction in range(sizes.directions):
            place = number * sizes.directions + direction
            own = _drawn_weights(roll, sizes, weights[place * each : (place + 1) * each], first=number == 0)
            projected = tape.linear(given, own["weight_ih"], own.get("bias_ih"))
            step = step_of(tape, sizes.kind, own, sizes.nonlinearity)
            state = _start(roll, sizes, start, place, own)
            out, last = layer(tape, step, projected, state, sizes.time, backward=direction == 1)
            outs.append(out)
            lasts.append(last)
        given = tape.cat(outs, 2) if sizes.directions == 2 else outs[0]
    hidden = weights[1].shape[1]
    computed: list[tuple[Node, tuple[int, ...]]] = [(given, (*x.shape[:2], sizes.directions * hidden))]
    for part, width in enumerate((hidden, weights[1].shape[0] // 4) if sizes.kind == "lstm" else (hidden,)):
        ends = tape.stack([state[part] for state in lasts], 0)
        computed.append((ends, (len(lasts), sizes.batch, width)))
    shapes = call.shapes or (call.shape,)
    output, *parts = (
        reshaped(value, shapes[part]) if part < len(shapes) and value.shape != shapes[part] else value
        for part, value in enumerate(roll.results(computed))
    )
    output.steps = _steps(roll, x, source, sizes)
    return (output, *parts)


def _draws(width: int) -> int:
    """As many as cost the same at every width."""
    return int(min(max(MOST * (64 / max(width, 1)) ** 2, FEWEST), MOST))


def _drawn_weights(roll: Rollout, sizes: _Layers, weights: Sequence[Value], *, first: bool) -> dict[str, Node]:
    """The weights of one layer and direction by name: two, then two biases and the projection where there are any."""
    names = ["weight_ih", "weight_hh"]
    names += ["bias_ih", "bias_hh"] if len(weights) >= 4 else []
    names += ["weight_hr"] if len(weights) % 2 else []
    found = {}
    for name, value in zip(names, weights, strict=True):
        rows = sizes.narrow(value.shape[0], 1 if name == "weight_hr" else GATES[sizes.kind])
        directions = sizes.directions if name == "weight_ih" and not first else 1
        found[name] = roll.leaf(value, (rows, *(sizes.narrow(size, directions) for size in value.shape[1:])))
    return found


def _start(roll: Rollout, sizes: _Layers, given: Sequence[Value], place: int, weights: Mapping[str, Node]) -> State:
    """The state before the first step, zero unless it is given."""
    hidden = weights["weight_hh"].shape[1]
    widths = (hidden, weights["weight_hh"].shape[0] // 4) if sizes.kind == "lstm" else (hidden,)
    if len(given) < len(widths):
        return tuple(roll.known(np.zeros((sizes.samples, width))) for width in widths)
    count = sizes.number * sizes.directions
    nodes = [
        roll.leaf(value, (count, sizes.samples, width) if value.rank == 3 else (count, width))
        for value, width in zip(given, widths, strict=True)
    ]
    return tuple(
        roll.tape.reshape(roll.tape.view(node, lambda array: array[:, place]), (sizes.samples, width))
        for node, width in zip(nodes, widths, strict=True)
    )


def _steps(roll: Rollout, x: Value, source: Node, sizes: _Layers) -> tuple[Value, ...]:
    """The input of each step that was drawn, with the gradient that arrives there."""

    def gradient(index: int) -> Array:
        whole = np.zeros(source.array.shape) if source.grad is None else source.grad
        return np.asarray(np.take(whole, index, sizes.time + 1))

    shape = (sizes.batch, x.shape[2])
    steps = tuple(iid(shape, x.mean, x.variance) for _ in range(sizes.lead[sizes.time]))
    for index, step in enumerate(steps):
        roll.watch(step, partial(gradient, index))
    return steps
