"""A part of the graph that is computed on draws, and the abstract values at its borders.

All results hang on one hub. Going back, each result hands its cotangent to the hub; when the turn of the hub comes,
all of them have, the gradient is run through the tape once, and the operands get the tables of what arrived there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from stablelint.predict.domain import LIMIT, Pull, Table, Value, settle
from stablelint.predict.gaussian import Array
from stablelint.predict.profile import EVEN, Alignment, Along
from stablelint.predict.unrolled.draw import all_tables, drawn, drawn_value, tables, typical, uneven
from stablelint.predict.unrolled.tape import Node, Tape


class Rollout:
    """Draws of some values, what is computed from them, and the values that it becomes.

    ``samples`` says how many samples of the batch each that was drawn stands for; ``time`` is an axis of which only
    the last indices were drawn.
    """

    def __init__(self, draws: int, samples: float = 1.0, time: int | None = None) -> None:
        self.tape = Tape()
        self.draws = draws
        self._samples, self._time = samples, time
        self._rng = np.random.default_rng(0)
        self._leaves: dict[int, tuple[Value, Node]] = {}
        self._results: list[tuple[Value, Node]] = []
        self._watched: list[tuple[Value, Callable[[], Array | None]]] = []
        self._hub: Value | None = None
        self._scale: float | None = None

    def leaf(self, value: Value, shape: Sequence[int] | None = None) -> Node:
        """Draws of an operand, the same at every use; ``shape`` may be smaller than that of the value."""
        found = self._leaves.get(id(value))
        if found is None:
            array = drawn_value(value, value.shape if shape is None else shape, self.draws, self._rng)
            found = self._leaves[id(value)] = (value, self.tape.leaf(array))
        return found[1]

    def known(self, array: npt.ArrayLike) -> Node:
        """A tensor whose values are the same in all draws."""
        return self.tape.leaf(np.asarray(array, dtype=np.float64)[None])

    def results(self, computed: Sequence[tuple[Node, tuple[int, ...]]]) -> list[Value]:
        """The values of what was computed, in shapes that may be larger than those of the draws."""
        found = all_tables([node.array for node, _ in computed])
        return [self._result(node, shape, table.mean(0)) for (node, shape), table in zip(computed, found, strict=True)]

    def _result(self, node: Node, shape: tuple[int, ...], table: Table) -> Value:
        hub = self._between()
        if not np.isfinite(table.flat[-1]):
            table = np.full(table.shape, LIMIT)
        profile = uneven(node.array, shape) if len(shape) > 2 else EVEN
        value = Value(
            shape, table, float(node.array.mean()),
            ((hub, lambda _g: np.ones(hub.table.shape)),), profile=profile,
        )  # fmt: skip
        self._results.append((value, node))
        return value

    def watch(self, value: Value, gradient: Callable[[], Array | None]) -> None:
        """Let ``value`` take note of a gradient inside."""
        self._watched.append((value, gradient))

    def _between(self) -> Value:
        """The hub; operands must be known when the first result is asked for."""
        if self._hub is None:
            leaves = list(self._leaves.values())
            rank = max((value.rank for value, _ in leaves), default=0)
            parents = tuple((value, self._pull(value, node)) for value, node in leaves)
            self._hub = Value(
                (1,) * rank, np.ones((2,) * rank), 1.0, parents, alignments=tuple({} for _ in leaves), profile=EVEN
            )
        return self._hub

    def _pull(self, value: Value, node: Node) -> Pull:
        def pull(_g: Table) -> Table:
            if self._scale is None:
                self._scale = self._run()
            if node.grad is None:
                return np.zeros((2,) * value.rank)
            samples = self._samples if value.parameter is not None else 1.0
            return typical(tables(self._of_all_draws(node.grad))) * (self._scale * samples)

        return pull

    def _of_all_draws(self, gradient: Array) -> Array:
        return np.broadcast_to(gradient, (self.draws, *gradient.shape[1:]))

    def _run(self) -> float:
        """Run the gradients of all results through the tape, at a size far from the ends of the range of floats."""
        given = [(value, node) for value, node in self._results if value.cotangent is not None]
        scale = max((float(value.cotangent.flat[-1]) for value, _ in given if value.cotangent is not None), default=0.0)
        for value, node in given:
            if value.cotangent is not None and float(value.cotangent.flat[-1]) > 0:
                table = value.cotangent / scale
                node.receive(drawn(table, 0.0, node.shape, self.draws, self._rng, value.focus))
        self.tape.backward()
        assert self._hub is not None
        self._hub.alignments = tuple(self._alignment(value, node) for value, node in self._leaves.values())
        watched = [(value, found) for value, gradient in self._watched if (found := gradient()) is not None]
        described = all_tables([self._of_all_draws(found) for _, found in watched])
        for (value, _), found in zip(watched, described, strict=True):
            own = 0.0 if value.cotangent is None else value.cotangent
            value.observed = settle(typical(found) * scale - own, value.shape)
        return scale

    def _alignment(self, value: Value, node: Node) -> Alignment:
        """How the gradient of an operand varies along its axes, as what the one index of the hub sends where."""
        if node.grad is None or value.rank < 2:
            return {}
        found = uneven(self._of_all_draws(node.grad), value.shape, self._time)
        return {axis: Along(axis, reach=along[:, None]) for axis, along in found.items()}
