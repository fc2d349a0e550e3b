"""Writes graphs by hand, op by op, in the form in which the tracer records them."""

from __future__ import annotations

import math
from typing import Any

from stablelint.graph import Graph, Op, Parameter
from stablelint.site import NOWHERE, Site


class Draft:
    """A graph in the making; every method appends ops and returns the index of the result."""

    def __init__(self) -> None:
        self.ops: list[Op] = []

    def op(
        self,
        name: str,
        *inputs: int,
        shape: tuple[int, ...] | None = None,
        dtype: str = "float32",
        parameter: Parameter | None = None,
        known: Any = None,
        site: Site = NOWHERE,
        **attrs: Any,
    ) -> int:
        """Any op; its shape is that of its largest operand unless told."""
        if shape is None:
            shape = max((self.ops[index] for index in inputs), key=lambda op: op.numel).shape if inputs else ()
        index = len(self.ops)
        self.ops.append(Op(index, name, inputs, attrs, shape, dtype, site, parameter=parameter, known=known))
        return index

    def input(self, *shape: int, dtype: str = "float32") -> int:
        return self.op("input", shape=shape, dtype=dtype)

    def weight(self, *shape: int, rms: float = 1.0, name: str = "weight", buffer: bool = False) -> int:
        described = Parameter(name, shape, mean=0.0, std=rms, rms=rms, buffer=buffer)
        return self.op("parameter", shape=shape, parameter=described)

    def number(self, value: float) -> int:
        return self.op("constant", known=value)

    def linear(self, x: int, width: int | None = None, rms: float | None = None) -> int:
        """``F.linear`` with a bias; by default the weight keeps the scale of unit-variance inputs."""
        shape = self.ops[x].shape
        width = width or shape[-1]
        weight = self.weight(width, shape[-1], rms=1 / math.sqrt(shape[-1]) if rms is None else rms)
        bias = self.weight(width, rms=0.0, name="bias")
        operands = {"input": 0, "weight": 1, "bias": 2}
        return self.op("linear", x, weight, bias, shape=(*shape[:-1], width), operands=operands)

    def conv(self, x: int, weight: tuple[int, ...], shape: tuple[int, ...], name: str = "conv", **attrs: Any) -> int:
        return self.op(name, x, self.weight(*weight), shape=shape, operands={"input": 0, "weight": 1}, **attrs)

    def norm(self, x: int, gain: float = 1.0) -> int:
        weight = self.weight(self.ops[x].shape[-1], rms=gain)
        return self.op("layer_norm", x, weight, shape=self.ops[x].shape, operands={"input": 0, "weight": 1})

    def reduce(self, name: str, x: int) -> int:
        """A statistic over the last axis, which is kept."""
        return self.op(name, x, shape=(*self.ops[x].shape[:-1], 1), dim=-1, keepdim=True)

    def transposed(self, x: int) -> int:
        *front, rows, columns = self.ops[x].shape
        return self.op("transpose", x, shape=(*front, columns, rows))

    def matmul(self, left: int, right: int, *more: int, **attrs: Any) -> int:
        shape = (*self.ops[left].shape[:-1], self.ops[right].shape[-1])
        return self.op("matmul", left, right, *more, shape=shape, **attrs)

    def branch(self, x: int, *names: str) -> int:
        """Ops in a row: "linear", "norm" or any elementwise function."""
        for name in names:
            x = {"linear": self.linear, "norm": self.norm}[name](x) if name in {"linear", "norm"} else self.op(name, x)
        return x

    def graph(self, *outputs: int) -> Graph:
        """The graph; by default the last op is the output."""
        return Graph(tuple(self.ops), outputs or (len(self.ops) - 1,))
