"""Weights that are computed from parameters: weight norm, spectral norm, any parametrization, ``w * scale``.

Their values follow from the real parameters alone, so they are computed for real, a few small ops each, and described
like parameters: rules and predictions need their scale, which the statistics of the ingredients do not give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx
from torch.utils._pytree import tree_map

from stablelint.graph.families import CONTRACTIONS, WEIGHTED
from stablelint.graph.graph import Graph
from stablelint.graph.op import Op, Parameter
from stablelint.trace.shards import whole
from stablelint.trace.weights import statistics

#: Elements that one derived weight may have, and all ops behind it together: beyond, its parameters are described only.
_LIMIT = 1 << 24


def with_derived_weights(graph: Graph, nodes: Sequence[fx.Node], tensors: Mapping[str, torch.Tensor]) -> Graph:
    """``graph`` with ``Op.parameter`` set where data is multiplied by what depends on parameters and nothing else."""
    found: dict[int, Parameter] = {}
    for op in graph:
        if not graph.is_data(op) or not (op.name in WEIGHTED or op.name in CONTRACTIONS):
            continue  # a mask or a relative position bias is no weight
        for source in graph.inputs(op):
            if source.index in found or not _derived(graph, source):
                continue
            value = _Evaluation(graph, nodes, tensors).value(source.index)
            if value is not None and value.is_floating_point():
                found[source.index] = _described(source, value)
    if not found:
        return graph
    ops = tuple(replace(op, parameter=found[op.index]) if op.index in found else op for op in graph)
    return Graph(ops, graph.outputs, graph.parameters, graph.training)


def _derived(graph: Graph, op: Op) -> bool:
    leaf = op.name in ("input", "parameter", "constant")
    if leaf or graph.is_data(op) or not graph.from_parameters(op) or not op.floating:
        return False
    return graph.behind_reshapes(op).name != "parameter" and len(op.shape) > 0


def _described(op: Op, value: torch.Tensor) -> Parameter:
    mean, std, rms, similarity = statistics(value)
    owner = op.site.module.partition(".parametrizations")[0]
    name = op.site.module.rpartition(".parametrizations.")[2].partition(".")[0] or "weight"
    return Parameter(f"{owner}.{name}".lstrip("."), tuple(value.shape), mean, std, rms, row_similarity=similarity)


class _Evaluation:
    """Run the ops behind one value on copies of the real parameters."""

    def __init__(self, graph: Graph, nodes: Sequence[fx.Node], tensors: Mapping[str, torch.Tensor]) -> None:
        self.graph = graph
        self.nodes = nodes
        self.tensors = tensors
        self.index = {node: index for index, node in enumerate(nodes)}
        self.values: dict[int, Any] = {}
        self.spent = 0

    def value(self, index: int) -> torch.Tensor | None:
        """The value of an op; None when it is too large or something behind it cannot be computed."""
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            try:
                found = self._run(index)
            except Exception:
                return None  # an op that needs more than values (a library's own tensor class): nothing is known
        return found if isinstance(found, torch.Tensor) else None

    def _run(self, index: int) -> Any:
        order, waiting = set(), [index]
        while waiting:
            current = waiting.pop()
            if current not in order:
                order.add(current)
                # the nodes know operands that only receive a result (out=), too
                waiting.extend(self.index[node] for node in self.nodes[current].all_input_nodes)
        for current in sorted(order):
            op, node = self.graph.ops[current], self.nodes[current]
            self.spent += op.numel
            if self.spent > _LIMIT:
                return None
            if op.name == "parameter":
                tensor = whole(self.tensors[str(node.target)])
                if tensor.is_meta:
                    return None
                self.values[current] = tensor.detach().clone()
            elif op.known is not None and not op.inputs:
                self.values[current] = torch.tensor(op.known, dtype=getattr(torch, op.dtype)).reshape(op.shape)
            else:
                self.values[current] = node.target(*self._arguments(node.args), **self._arguments(node.kwargs))  # type: ignore[operator]
        return self.values[index]

    def _arguments(self, arguments: Any) -> Any:
        return tree_map(
            lambda value: self.values[self.index[value]] if isinstance(value, fx.Node) else value, arguments
        )
