"""A prediction never fails: unknown ops, dead ops, overflow, odd shapes, broken parameters."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from stablelint.graph import Graph, Op, Parameter
from stablelint.predict import interpret, predict
from stablelint.predict.domain import Value
from stablelint.predict.transfer.rules import RULES


def parameter(index: int, *shape: int, mean: float = 0.0, std: float = 1.0) -> Op:
    rms = math.sqrt(mean * mean + std * std)
    return Op(index, "parameter", shape=shape, parameter=Parameter(f"p{index}", shape, mean, std, rms))


def chain(count: int, std: float) -> Graph:
    ops = [Op(0, "input", shape=(8, 64))]
    for _ in range(count):
        ops.append(parameter(len(ops), 64, 64, std=std))
        places = {"operands": {"input": 0, "weight": 1}}
        source = 0 if len(ops) == 2 else len(ops) - 2
        ops.append(Op(len(ops), "linear", (source, len(ops) - 1), places, (8, 64)))
    return Graph(tuple(ops), (len(ops) - 1,), tuple(op.parameter for op in ops if op.parameter))


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_yields_finite_signals_or_passes_through(name: str) -> None:
    ops = (
        Op(0, "input", shape=(4, 6, 8, 8)),
        parameter(1, 6, 6, 3, 3),
        Op(2, "conv", (0, 1), {"padding": 1, "operands": {"input": 0, "weight": 1}}, (4, 6, 8, 8)),
        Op(3, name, (2, 2), {"dim": 1, "operands": {"input": 0}}, (4, 6, 8, 8)),
        parameter(4, 6, 6, 1, 1),
        Op(5, "conv", (3, 4), {"operands": {"input": 0, "weight": 1}}, (4, 6, 8, 8)),
    )
    for row in predict(Graph(ops, (5,))).rows:
        assert row.rms is not None
        assert math.isfinite(row.rms)
        assert row.grad_rms is None or math.isfinite(row.grad_rms)


def test_unknown_op_passes_its_statistics_on_and_is_counted() -> None:
    ops = (
        Op(0, "input", shape=(4, 8)),
        parameter(1, 8, 8),
        Op(2, "linear", (0, 1), {"operands": {"input": 0, "weight": 1}}, (4, 8)),
        Op(3, "no_such_op", (2,), {}, (4, 16)),
    )
    found = interpret(Graph(ops, (3,)))
    assert found.unknown == {"no_such_op": 1}
    rows = predict(Graph(ops, (3,))).by_op
    assert rows[3].rms == pytest.approx(rows[2].rms)
    assert rows[2].grad_rms


def test_a_rule_that_fails_is_treated_as_unknown() -> None:
    ops = (
        Op(0, "input", shape=(4, 8)),
        parameter(1, 8, 8),
        Op(2, "linear", (0, 1), {"operands": {"input": 0, "weight": 1}}, (4, 8)),
        Op(3, "softmax", (2,), {"dim": 9}, (4, 8)),
    )
    assert interpret(Graph(ops, (3,))).unknown == {"softmax": 1} or predict(Graph(ops, (3,))).rows


def test_explosion_beyond_floating_point_is_clamped_and_reported() -> None:
    found = predict(chain(60, 100.0))
    assert all(math.isfinite(row.rms or 0.0) for row in found.rows)
    assert found.nonfinite is not None
    assert found.nonfinite.direction == "forward"


def test_vanishing_to_zero_is_not_an_error() -> None:
    ratio = predict(chain(60, 1e-8)).gradient_ratio
    assert ratio is not None
    assert 0 <= ratio < 1e-100


def test_parameters_that_are_not_numbers() -> None:
    ops = (
        Op(0, "input", shape=(4, 8)),
        parameter(1, 8, 8, mean=math.nan, std=math.nan),
        Op(2, "linear", (0, 1), {"operands": {"input": 0, "weight": 1}}, (4, 8)),
    )
    assert all(math.isfinite(row.rms or 0.0) for row in predict(Graph(ops, (2,))).rows)


def test_dead_ops_get_no_gradient_and_an_unused_parameter_none() -> None:
    ops = (
        Op(0, "input", shape=(4, 8)),
        parameter(1, 8, 8),
        Op(2, "linear", (0, 1), {"operands": {"input": 0, "weight": 1}}, (4, 8)),
        parameter(3, 8, 8),
        Op(4, "linear", (2, 3), {"operands": {"input": 0, "weight": 1}}, (4, 8), live=False),
    )
    found = predict(Graph(ops, (2,), tuple(op.parameter for op in ops if op.parameter)))
    assert 4 not in found.by_op
    assert [row.grad_rms is None for row in found.parameters] == [False, True]


def test_graph_without_an_output() -> None:
    assert predict(Graph((Op(0, "input", shape=(4, 8)),), ())).rows == ()


def test_prediction_is_deterministic() -> None:
    assert predict(chain(5, 0.2)) == predict(chain(5, 0.2))


def test_known_mask_closes_positions() -> None:
    mask = np.triu(np.full((6, 6), -1e9), 1).tolist()
    ops = (
        Op(0, "input", shape=(2, 6, 6)),
        parameter(1, 6, 6),
        Op(2, "matmul", (0, 1), {}, (2, 6, 6)),
        Op(3, "constant", shape=(6, 6), known=mask),
        Op(4, "add", (2, 3), {}, (2, 6, 6)),
        Op(5, "softmax", (4,), {"dim": 2}, (2, 6, 6)),
    )
    weights = interpret(Graph(ops, (5,))).values[5]
    assert isinstance(weights, Value)
    assert weights.attention is not None
    assert weights.attention[1] == pytest.approx(sum(1 / n for n in range(1, 7)) / 6, abs=0.02)


def test_prediction_needs_no_torch() -> None:
    code = "import stablelint.predict, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
