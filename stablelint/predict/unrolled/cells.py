"""LSTM, GRU and plain RNN: one step, and a layer over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from stablelint.graph.op import Op
from stablelint.predict.functions import function
from stablelint.predict.unrolled.tape import Node, Tape

State = tuple[Node, ...]
#: The next state from what the input contributes to the gates, and the state.
Step = Callable[[Node, State], State]

#: The operands of a cell op but for its state.
CELL_INPUTS = ("input", "weight_ih", "weight_hh", "bias_ih", "bias_hh")

#: How many gates each cell has.
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def gate(tape: Tape, gates: Node, place: int, width: int) -> Node:
    """The rows of one gate."""
    return tape.view(gates, lambda array: array[..., place * width : (place + 1) * width])


def step_of(tape: Tape, kind: str, weights: Mapping[str, Node], nonlinearity: str = "tanh") -> Step:
    """One step of a cell with the weights "weight_hh" and, if given, "bias_hh" and "weight_hr", a projection."""
    w_hidden, bias, projection = weights["weight_hh"], weights.get("bias_hh"), weights.get("weight_hr")

    def lstm(given: Node, state: State) -> State:
        hidden, cell = state
        gates = tape.add(given, tape.linear(hidden, w_hidden, bias))
        width = gates.shape[-1] // 4
        enter, forget, candidate, leave = (gate(tape, gates, place, width) for place in range(4))
        written = tape.mul(tape.sigmoid(enter), tape.tanh(candidate))
        cell = tape.add(tape.mul(tape.sigmoid(forget), cell), written)
        hidden = tape.mul(tape.sigmoid(leave), tape.tanh(cell))
        return hidden if projection is None else tape.linear(hidden, projection), cell

    def gru(given: Node, state: State) -> State:
        (hidden,) = state
        own = tape.linear(hidden, w_hidden, bias)
        width = own.shape[-1] // 3
        xs, hs = ([gate(tape, part, place, width) for place in range(3)] for part in (given, own))
        reset, update = (tape.sigmoid(tape.add(xs[place], hs[place])) for place in range(2))
        new = tape.tanh(tape.add(xs[2], tape.mul(reset, hs[2])))
        return (tape.add(new, tape.mul(update, tape.add(hidden, new, -1.0))),)

    def plain(given: Node, state: State) -> State:
        total = tape.add(given, tape.linear(state[0], w_hidden, bias))
        outer = function(nonlinearity, {})
        return (tape.tanh(total) if outer is None else tape.apply(total, outer),)

    return {"lstm": lstm, "gru": gru, "rnn": plain}[kind]


def cell_step(tape: Tape, op: Op, given: Mapping[str, Node], state: State) -> State:
    """The next state from a cell op; before the first one it is zero."""
    kind = op.name.removesuffix("_cell")
    if not state:
        zero = np.zeros((1, *given["input"].shape[:-1], given["weight_hh"].shape[1]))
        state = (tape.leaf(zero),) * (2 if kind == "lstm" else 1)
    step = step_of(tape, kind, given, str(op.attrs.get("nonlinearity", "tanh")))
    return step(tape.linear(given["input"], given["weight_ih"], given.get("bias_ih")), state)


def layer(tape: Tape, step: Step, given: Node, state: State, time: int, *, backward: bool) -> tuple[Node, State]:
    """All steps along axis ``time`` of ``given``: the hidden states stacked along it, and the last state."""
    length = given.shape[time]
    order = range(length - 1, -1, -1) if backward else range(length)
    outs: dict[int, Node] = {}
    for index in order:
        front = (slice(None),) * (time + 1)
        state = step(tape.view(given, lambda array, at=(*front, index): array[at]), state)  # type: ignore[misc]
        outs[index] = state[0]
    return tape.stack([outs[index] for index in range(length)], time), state
