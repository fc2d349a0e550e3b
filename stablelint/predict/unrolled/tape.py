"""Reverse-mode differentiation of the few operations that loops consist of, on arrays of several draws at once.

Every array has the draws as its first axis (or 1 there, for what all draws share), then the axes of the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from stablelint.predict.functions import sigmoid as _sigmoid
from stablelint.predict.gaussian import Array, Function

View = Callable[[Array], Array]


class Node:
    """An array, the gradient that came back to it so far, and how it is passed on."""

    __slots__ = ("_own", "_pairs", "array", "back", "grad")

    def __init__(self, array: Array, back: Callable[[Array], None] | None = None) -> None:
        self.array = array
        self.grad: Array | None = None
        self.back = back
        self._own = False  # whether nothing else refers to the array of the gradient
        self._pairs: list[tuple[Array, Array]] = []

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor, without the draws."""
        return self.array.shape[1:]

    def room(self) -> Array:
        """The gradient to add to in place."""
        if self.grad is None:
            self.grad = np.zeros(self.array.shape)
        elif not self._own:
            self.grad = self.grad.copy()
        self._own = True
        return self.grad

    def receive(self, gradient: Array) -> None:
        """Add a gradient, summed over the axes along which this array was broadcast."""
        shape = self.array.shape
        if gradient.shape != shape:
            extra = tuple(range(1, 1 + gradient.ndim - len(shape)))
            gradient = gradient.sum(axis=extra) if extra else gradient
            axes = tuple(axis for axis, size in enumerate(shape) if size == 1 and gradient.shape[axis] > 1)
            gradient = gradient.sum(axis=axes, keepdims=True) if axes else gradient
        if self._own and self.grad is not None and self.grad.shape == gradient.shape:
            self.grad += gradient
        else:
            self._own = self.grad is not None
            self.grad = gradient if self.grad is None else self.grad + gradient

    def multiplied(self, gradient: Array, rows: Array) -> None:
        """Note a use as weight: all uses become one product in the end."""
        self._pairs.append((gradient, rows))

    def settle(self) -> None:
        """Add what the uses as weight amount to: ``sum of gradient^T rows``."""
        if self._pairs:
            gradients, rows = (np.concatenate(part, 1) for part in zip(*self._pairs, strict=True))
            self._pairs = []
            self.receive(gradients.swapaxes(1, 2) @ rows)


class Tape:
    """The nodes in the order in which they were computed."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []

    def leaf(self, array: Array) -> Node:
        """An array that depends on nothing."""
        return self._noted(Node(array))

    def _noted(self, node: Node) -> Node:
        self._nodes.append(node)
        return node

    def backward(self) -> None:
        """Pass all gradients on to the leaves."""
        for node in reversed(self._nodes):
            node.settle()
            if node.grad is not None and node.back is not None:
                node.back(node.grad)

    # ---- operations

    def linear(self, x: Node, weight: Node, bias: Node | None = None) -> Node:
        """``x W^T + b`` for x of shape (..., in) and W of shape (out, in)."""
        lead, width = x.array.shape[:-1], weight.array.shape[1]
        rows = x.array.reshape(lead[0], -1, x.array.shape[-1])

        def back(g: Array) -> None:
            flat = g.reshape(g.shape[0], -1, width)
            x.receive((flat @ weight.array).reshape(*g.shape[:-1], rows.shape[-1]))
            weight.multiplied(flat, np.broadcast_to(rows, (flat.shape[0], *rows.shape[1:])))

        product = rows @ weight.array.swapaxes(1, 2)
        result = self._noted(Node(product.reshape(product.shape[0], *lead[1:], width), back))
        return result if bias is None else self.add(result, bias)

    def matmul(self, left: Node, right: Node) -> Node:
        """Products of batches of matrices."""
        a, b = _matched(left.array, right.array)

        def back(g: Array) -> None:
            left.receive(g @ b.swapaxes(-1, -2))
            right.receive(a.swapaxes(-1, -2) @ g)

        return self._noted(Node(a @ b, back))

    def add(self, left: Node, right: Node, factor: float = 1.0) -> Node:
        """``left + factor * right`` with broadcasting."""

        def back(g: Array) -> None:
            left.receive(g)
            right.receive(g if factor == 1 else factor * g)

        a, b = _matched(left.array, right.array)
        return self._noted(Node(a + (b if factor == 1 else factor * b), back))

    def mul(self, left: Node, right: Node) -> Node:
        """``left * right`` with broadcasting."""
        a, b = _matched(left.array, right.array)

        def back(g: Array) -> None:
            left.receive(g * b)
            right.receive(g * a)

        return self._noted(Node(a * b, back))

    def affine(self, x: Node, factor: float, amount: float = 0.0) -> Node:
        """``factor * x + amount`` for numbers."""
        return self._noted(Node(factor * x.array + amount, lambda g: x.receive(factor * g)))

    def sigmoid(self, x: Node) -> Node:
        """The logistic function."""
        y = _sigmoid(x.array)
        return self._noted(Node(y, lambda g: x.receive(g * y * (1 - y))))

    def tanh(self, x: Node) -> Node:
        """The hyperbolic tangent."""
        y = np.tanh(x.array)
        return self._noted(Node(y, lambda g: x.receive(g * (1 - y * y))))

    def apply(self, x: Node, function: Function) -> Node:
        """An elementwise function."""
        if function.key == "sigmoid":
            return self.sigmoid(x)
        if function.key == "tanh":
            return self.tanh(x)
        return self._noted(
            Node(np.asarray(function.of(x.array)), lambda g: x.receive(g * function.derivative(x.array)))
        )

    def view(self, x: Node, of: View) -> Node:
        """A part of the elements in some order, as numpy gives it without copying."""

        def back(g: Array) -> None:
            of(x.room())[...] += g

        return self._noted(Node(of(x.array), back))

    def reshape(self, x: Node, shape: Sequence[int]) -> Node:
        """The same elements in another shape."""
        before = x.array.shape
        return self._noted(
            Node(x.array.reshape(before[0], *shape), lambda g: x.receive(g.reshape(g.shape[0], *before[1:])))
        )

    def cat(self, parts: Sequence[Node], axis: int) -> Node:
        """One after the other along an axis of the tensor."""
        axis = axis % len(parts[0].shape) + 1
        draws = max(part.array.shape[0] for part in parts)
        arrays = [np.broadcast_to(part.array, (draws, *part.shape)) for part in parts]
        ends = np.cumsum([array.shape[axis] for array in arrays])[:-1]

        def back(g: Array) -> None:
            for part, own in zip(parts, np.split(g, ends, axis), strict=True):
                part.receive(own)

        return self._noted(Node(np.concatenate(arrays, axis), back))

    def stack(self, parts: Sequence[Node], axis: int) -> Node:
        """Along a new axis of the tensor."""
        axis %= len(parts[0].shape) + 1
        shape = parts[0].shape
        return self.cat([self.reshape(part, (*shape[:axis], 1, *shape[axis:])) for part in parts], axis)

    def sum(self, x: Node, axes: tuple[int, ...]) -> Node:
        """The sum over axes of the array, which are kept."""
        return self._noted(
            Node(x.array.sum(axis=axes, keepdims=True), lambda g: x.receive(np.broadcast_to(g, x.array.shape)))
        )

    def softmax(self, x: Node, axis: int) -> Node:
        """Shares along an axis of the array."""
        powers = np.exp(x.array - x.array.max(axis=axis, keepdims=True))
        y = powers / powers.sum(axis=axis, keepdims=True)
        return self._noted(Node(y, lambda g: x.receive(y * (g - (g * y).sum(axis=axis, keepdims=True)))))

    def normalize(self, x: Node, axes: int, epsilon: float) -> Node:
        """Mean 0 and variance 1 over the last ``axes`` axes of the tensor."""
        over = tuple(range(-axes, 0))
        inverse = 1 / np.sqrt(x.array.var(axis=over, keepdims=True) + epsilon)
        y = (x.array - x.array.mean(axis=over, keepdims=True)) * inverse

        def back(g: Array) -> None:
            centred = g - g.mean(axis=over, keepdims=True) - y * (g * y).mean(axis=over, keepdims=True)
            x.receive(centred * inverse)

        return self._noted(Node(y, back))


def _matched(left: Array, right: Array) -> tuple[Array, Array]:
    """Both with as many axes behind the draws, so that they broadcast like the tensors."""
    rank = max(left.ndim, right.ndim)
    return _lead(left, rank), _lead(right, rank)


def _lead(array: Array, rank: int) -> Array:
    missing = rank - array.ndim
    return array.reshape(array.shape[0], *(1,) * missing, *array.shape[1:]) if missing else array
