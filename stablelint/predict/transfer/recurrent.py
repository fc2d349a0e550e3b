"""LSTM, GRU and plain RNN cells as elementwise functions of two contractions, and whole layers by unrolling.

A layer is unrolled over time with the rules of its cell until the state no longer changes; the steps after that
stand for all that follow. The weights are the same at every step and are taken as fresh: the powers of one matrix
grow with its spectral radius, not with its rms, so long sequences are predicted to vanish somewhat too fast
(Chen, Pennington & Schoenholz 2018, arXiv:1806.05394, for the mean-field theory of the gates).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stablelint.predict.call import Call, NotModelled, Result
from stablelint.predict.domain import Value, copied, iid
from stablelint.predict.functions import function
from stablelint.predict.gaussian import Function
from stablelint.predict.transfer.arithmetic import add, mul, scaled, shifted
from stablelint.predict.transfer.contraction import contract
from stablelint.predict.transfer.elementwise import apply
from stablelint.predict.transfer.shaping import expanded, joined, reshaped, selected, sliced, stacked

State = tuple[Value, ...]
Step = Callable[[Value, State], State]

#: Steps that are unrolled one by one.
LONGEST = 64


def _named(name: str) -> Function:
    found = function(name, {})
    assert found is not None
    return found


SIGMOID, TANH = _named("sigmoid"), _named("tanh")


def _affine(x: Value, weight: Value, bias: Value | None) -> Value:
    result = contract(x, "BY", weight, "ZY", "BZ")
    return result if bias is None else add(result, bias)


def step_of(kind: str, weights: Sequence[Value], nonlinearity: str = "tanh") -> Step:
    """One step of a cell with input and hidden weights and, if given, two biases."""
    w_in, w_hidden = weights[0], weights[1]
    b_in, b_hidden = (weights[2], weights[3]) if len(weights) >= 4 else (None, None)
    width = w_hidden.shape[1]

    def lstm(x: Value, state: State) -> State:
        hidden, cell = state[0], state[1]
        gates = add(_affine(x, w_in, b_in), _affine(hidden, w_hidden, b_hidden))
        # the four gates of one unit are different rows of the weights: independent parts of one tensor
        enter, forget, candidate, leave = (sliced(gates, 1, width) for _ in range(4))
        cell = add(mul(apply(forget, SIGMOID), cell), mul(apply(enter, SIGMOID), apply(candidate, TANH)))
        return mul(apply(leave, SIGMOID), apply(cell, TANH)), cell

    def gru(x: Value, state: State) -> State:
        hidden = state[0]
        from_x, from_h = _affine(x, w_in, b_in), _affine(hidden, w_hidden, b_hidden)
        xs, hs = [[sliced(part, 1, width) for _ in range(3)] for part in (from_x, from_h)]
        reset, update = (apply(add(xs[i], hs[i]), SIGMOID) for i in range(2))
        new = apply(add(xs[2], mul(reset, hs[2])), TANH)
        return (add(mul(shifted(scaled(update, -1.0), 1.0), new), mul(update, hidden)),)

    def plain(x: Value, state: State) -> State:
        total = add(_affine(x, w_in, b_in), _affine(state[0], w_hidden, b_hidden))
        return (apply(total, _named(nonlinearity if nonlinearity in ("tanh", "relu") else "tanh")),)

    return {"lstm": lstm, "gru": gru, "rnn": plain}[kind]


def cell(call: Call) -> Result:
    """One step: lstm_cell, gru_cell, rnn_cell."""
    kind = call.op.name.removesuffix("_cell")
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = [value for value in (call.optional(name) for name in names) if value is not None]
    states = tuple(call.several("hx"))
    state = step_of(kind, weights, str(call.attr("nonlinearity", "tanh")))(call.value("input"), states)
    return state if kind == "lstm" else state[0]


def recurrent(call: Call) -> Result:
    """A layer over time: the outputs of every step and the last state."""
    if call.attr("packed"):
        raise NotModelled("packed sequences")
    kind, x = call.op.name, call.value("input")
    layers, directions = int(call.attr("num_layers", 1)), 2 if call.attr("bidirectional") else 1
    weights = call.several("weights")
    per_layer = len(weights) // (layers * directions)
    first = bool(call.attr("batch_first"))
    if x.rank == 2:
        x = reshaped(x, (x.shape[0], 1, x.shape[1]))
        first = False
    states: list[State] = []
    steps: tuple[Value, ...] = ()
    for layer in range(layers):
        outs = []
        for direction in range(directions):
            start = (layer * directions + direction) * per_layer
            step = step_of(kind, weights[start : start + per_layer], str(call.attr("nonlinearity", "tanh")))
            out, state = unroll(step, x, 0 if first else 1, weights[start + 1].shape[1], 2 if kind == "lstm" else 1)
            outs.append(out)
            states.append(state)
            steps = steps or out.steps
        x = joined(outs, 2) if directions == 2 else outs[0]
    output = reshaped(x, call.shapes[0] if call.shapes else call.shape)
    output.steps = steps
    lasts = []
    for part in range(2 if kind == "lstm" else 1):
        last = stacked([state[part] for state in states], 0)
        shape = call.shapes[1 + part] if len(call.shapes) > 1 + part else last.shape
        lasts.append(reshaped(last, shape))
    return (output, *lasts)


def unroll(step: Step, x: Value, batch_axis: int, width: int, parts: int) -> tuple[Value, State]:
    """Run ``step`` along the time axis of ``x``; beyond ``LONGEST`` steps one stands for several."""
    time_axis = 1 - batch_axis
    length, batch = x.shape[time_axis], x.shape[batch_axis]
    state: State = tuple(iid((batch, width), 0.0, 0.0) for _ in range(parts))
    outs, inputs = [], []
    shown = min(length, LONGEST)
    for time in range(shown):
        inputs.append(selected(x, time_axis, time))
        state = step(inputs[-1], state)
        outs.append(state[0])
    out = stacked(outs, time_axis)
    if shown < length:
        # what is not unrolled looks like the last step
        rest = expanded(
            reshaped(outs[-1], (batch, 1, width) if time_axis == 1 else (1, batch, width)),
            (batch, length - shown, width) if time_axis == 1 else (length - shown, batch, width),
        )
        out = joined([out, rest], time_axis)
    result = copied(out)
    result.steps = tuple(inputs)
    return result, state
