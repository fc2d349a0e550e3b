"""Everything that multiplies two tensors and sums: linear, matmul, einsum, bilinear, embedding.

    y_o = sum_k a_(i) b_(j)   =>   C_y[agreement on o] = sum over agreement patterns on k of  w C_a C_b

where an axis of length n that is summed has n pairs of indices that agree and n (n - 1) that differ. Weights are
ordinary operands with a table of their own, so mean weights (rank-one parts) are covered. The cotangent of each
operand is the same contraction of the cotangent of y with the other operand; that of a weight is the expected
squared gradient of the parameter. For independent weights of variance s^2 / n this is the recursion q' = s^2 q of
Poole et al. 2016 (arXiv:1606.05340) and the gradient recursion of Schoenholz et al. 2017 (arXiv:1611.01232), and
for attention the map of token correlations of Noci et al. 2022 (arXiv:2206.03126).
"""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_letters
from typing import Any

import numpy as np
import numpy.typing as npt

from stablelint.predict.call import Call, NotModelled, Result
from stablelint.predict.domain import Table, Value, broadcast, repeated
from stablelint.predict.profile import Alignment, Along
from stablelint.predict.transfer.arithmetic import add, scaled
from stablelint.predict.transfer.shaping import expanded, selected

#: The length of an axis, or its numbers of pairs that differ and agree.
Count = float | tuple[float, float]


def contract(left: Value, left_axes: str, right: Value, right_axes: str, out_axes: str) -> Value:
    """``einsum("left,right->out")`` of two independent tensors; one letter per axis."""
    sizes: dict[str, float] = {}
    for axes, value in ((left_axes, left), (right_axes, right)):
        for axis, size in zip(axes, value.shape, strict=True):
            sizes[axis] = max(sizes.get(axis, 1), size)
    mean = left.mean * right.mean
    for axis in set(left_axes + right_axes) - set(out_axes):
        mean *= sizes[axis]
    return Value(
        tuple(int(sizes[axis]) for axis in out_axes),
        contract_tables(left.table, left_axes, right.table, right_axes, out_axes, sizes),
        mean,
        (
            (left, lambda g: contract_tables(g, out_axes, right.table, right_axes, left_axes, sizes)),
            (right, lambda g: contract_tables(g, out_axes, left.table, left_axes, right_axes, sizes)),
        ),
        alignments=(_alignment(out_axes, left_axes, left), _alignment(out_axes, right_axes, right)),
        mixed=tuple(
            tuple(place for place, axis in enumerate(axes) if axis not in out_axes) for axes in (left_axes, right_axes)
        ),
    )


def _alignment(out_axes: str, axes: str, operand: Value) -> Alignment:
    return {
        place: Along(axes.index(axis))
        for place, axis in enumerate(out_axes)
        if axis in axes and operand.shape[axes.index(axis)] > 1
    }


def contract_tables(
    left: Table, left_axes: str, right: Table, right_axes: str, out_axes: str, sizes: Mapping[str, Count]
) -> Table:
    """The table of a contraction; ``sizes`` give the length of an axis or the number of its pairs (differ, agree)."""
    left, left_axes = _sum_alone(left, left_axes, right_axes + out_axes, sizes)
    right, right_axes = _sum_alone(right, right_axes, left_axes + out_axes, sizes)
    for place, axis in enumerate(left_axes):
        if axis in right_axes and axis not in out_axes:
            weights = np.ones(left.ndim, dtype=int).tolist()
            weights[place] = 2
            left = left * np.array(pairs_of(sizes[axis])).reshape(weights)
    present = [axis for axis in out_axes if axis in left_axes or axis in right_axes]
    table: Table = np.einsum(f"{left_axes},{right_axes}->{''.join(present)}", left, right)
    for place, axis in enumerate(out_axes):
        if axis not in present:
            table = repeated(table, place)
    return np.asarray(table)


def pairs_of(size: Count) -> tuple[float, float]:
    """How many pairs of indices differ and agree on an axis that is summed."""
    return size if isinstance(size, tuple) else (size * max(size - 1, 0), size)


def _sum_alone(table: Table, axes: str, others: str, sizes: Mapping[str, Count]) -> tuple[Table, str]:
    """Sum over the axes that nothing else has."""
    for axis in axes:
        if axis not in others:
            differ, agree = pairs_of(sizes[axis])
            place = axes.index(axis)
            table = differ * np.take(table, 0, place) + agree * np.take(table, 1, place)
            axes = axes.replace(axis, "")
    return table, axes


def linear(call: Call) -> Result:
    """``y = x W^T + b``."""
    x, weight = call.value("input"), call.value("weight")
    axes = ascii_letters[: x.rank - 1]
    if weight.rank == 1:
        result = contract(x, axes + "Y", weight, "Y", axes)
    else:
        result = contract(x, axes + "Y", weight, "ZY", axes + "Z")
    bias = call.optional("bias")
    return result if bias is None else add(result, bias)


def bilinear(call: Call) -> Result:
    """``y_o = x1_i W_oij x2_j + b_o``."""
    first, second, weight = call.value("input1"), call.value("input2"), call.value("weight")
    axes = ascii_letters[: first.rank - 1]
    result = contract(
        contract(first, axes + "X", weight, "ZXY", axes + "ZY"), axes + "ZY", second, axes + "Y", axes + "Z"
    )
    bias = call.optional("bias")
    return result if bias is None else add(result, bias)


def matmul(call: Call) -> Result:
    """``a @ b`` with broadcasting; also addmm and baddbmm (``beta * bias + alpha * a @ b``)."""
    positions = call.op.attrs.get("operands", {})
    left, right = call.value("input" if "input" in positions else 0), call.value("other" if "other" in positions else 1)
    result = multiply(left, right)
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    bias = call.optional("bias")
    if alpha != 1:
        result = scaled(result, alpha)
    if bias is not None and beta != 0:
        result = add(result, bias, beta)
    return result


def multiply(left: Value, right: Value) -> Value:
    """The matrix product of two values."""
    if left.rank == 1 and right.rank == 1:
        return contract(left, "Y", right, "Y", "")
    if left.rank == 1:
        axes = ascii_letters[: right.rank - 2]
        return contract(left, "Y", right, axes + "YZ", axes + "Z")
    if right.rank <= 2:
        axes = ascii_letters[: left.rank - 1]
        return contract(left, axes + "Y", right, "YZ"[: right.rank], axes + "Z"[: right.rank - 1])
    lead = broadcast(left.shape[:-2], right.shape[:-2])
    axes = ascii_letters[: len(lead)]
    left, right = expanded(left, lead + left.shape[-2:]), expanded(right, lead + right.shape[-2:])
    return contract(left, axes + "XY", right, axes + "YZ", axes + "XZ")


def einsum(call: Call) -> Result:
    """Einstein summation of one operand, or of several from left to right."""
    equation = str(call.attr("equation", "")).replace(" ", "")
    values = call.values()
    if not equation or equation.count("->") > 1 or len(values) != equation.count(",") + 1:
        raise NotModelled("einsum without an equation")
    inputs, _, out = equation.partition("->")
    terms = inputs.split(",")
    if "..." in equation:
        terms, out = _spell_ellipsis(terms, out, values)
    if "->" not in equation:
        joined = "".join(terms)
        out = "".join(sorted(axis for axis in set(joined) if joined.count(axis) == 1))
    if any(len(set(term)) != len(term) for term in terms):
        raise NotModelled("einsum over a diagonal")
    result, axes = values[0], terms[0]
    for place in range(1, len(terms)):
        later = set("".join(terms[place + 1 :]) + out)
        wanted = "".join(axis for axis in dict.fromkeys(axes + terms[place]) if axis in later)
        wanted = out if place == len(terms) - 1 else wanted
        result, axes = contract(result, axes, values[place], terms[place], wanted), wanted
    if axes != out:
        one = Value((), np.ones(()), 1.0)
        result = contract(result, axes, one, "", out)
    return result


def _spell_ellipsis(terms: list[str], out: str, values: list[Value]) -> tuple[list[str], str]:
    free = [letter for letter in ascii_letters if letter not in "".join(terms) + out]
    extra = [value.rank - len(term.replace("...", "")) for term, value in zip(terms, values, strict=True)]
    letters = "".join(free[: max(extra)])
    spelled = [term.replace("...", letters[len(letters) - n :]) for term, n in zip(terms, extra, strict=True)]
    return spelled, out.replace("...", letters)


def grouped_mm(call: Call) -> Result:
    """Rows that are multiplied by the matrix of their group (experts): any one of them, on average."""
    left, right = call.value(0), call.value(1)
    if left.rank != 2 or right.rank != 3:
        raise NotModelled("a grouped product over the contracted axis")
    return multiply(left, selected(right, 0))


def embedding(call: Call) -> Result:
    """Rows of a table picked by ids: two places agree as one row does when their ids are equal.

    ``C_y[A, k] = p_A C_W[1, k] + (1 - p_A) C_W[0, k]`` with p_A the share of equal ids among pairs of places with
    agreement A: counted where the ids are known and 1 / rows for uniform random ids.
    """
    weight, ids = call.value("weight"), call.known("input")
    shape = call.shape[: len(call.shape) - weight.rank + 1]
    return lookup(weight, equal_ids(ids, shape, weight.shape[0]), shape)


def lookup(weight: Value, equal: Table, shape: tuple[int, ...]) -> Value:
    """Rows of ``weight`` (its first axis) at places of ``shape``; ``equal`` is the share of equal ids by agreement."""
    rows, rest = weight.shape[0], weight.rank - 1
    share = equal.reshape(equal.shape + (1,) * rest)

    def pull(g: Table) -> Table:
        pairs = np.ones(())
        for size in shape:
            pairs = np.multiply.outer(pairs, np.array([size * (size - 1), size], dtype=float))
        pairs = pairs.reshape(share.shape)
        axes = tuple(range(len(shape)))
        agree = (pairs * share * g).sum(axis=axes) / rows
        differ = (pairs * (1 - share) * g).sum(axis=axes) / (rows * max(rows - 1, 1))
        return np.stack([differ, agree])

    table = share * weight.table[1] + (1 - share) * weight.table[0]
    return Value(shape + weight.shape[1:], table, weight.mean, ((weight, pull),))


_SAMPLE = 512


def equal_ids(ids: npt.NDArray[Any] | None, shape: tuple[int, ...], rows: int) -> Table:
    """How often two places hold the same id, for every agreement of the places."""
    table = np.full((2,) * len(shape), 1.0 / max(rows, 1))
    if ids is not None and ids.size:
        flat = ids.reshape(-1)
        places = np.stack(np.unravel_index(np.arange(flat.size), shape)) if shape else np.zeros((0, 1), dtype=int)
        if flat.size > _SAMPLE:
            chosen = np.random.default_rng(0).permutation(flat.size)[:_SAMPLE]
            flat, places = flat[chosen], places[:, chosen]
        equal = flat[:, None] == flat[None]
        for pattern in np.ndindex(*table.shape):
            pairs = np.ones(equal.shape, dtype=bool)
            for axis, agree in enumerate(pattern):
                pairs &= (places[axis][:, None] == places[axis][None]) == bool(agree)
            table[pattern] = equal[pairs].mean() if pairs.any() else 0.0
    table.flat[-1] = 1.0
    return table
