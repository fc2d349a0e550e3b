"""One op with the abstract values of its operands, as a transfer rule reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stablelint.graph.op import Op
from stablelint.predict.domain import Value, empirical

#: A tensor is a value, several values, a known array, or an integer tensor of unknown content (None).
Operand = Value | tuple[Value, ...] | npt.NDArray[Any] | None
Result = Value | tuple[Value, ...]


class NotModelled(Exception):  # noqa: N818 (not an error: the op is then passed through and counted)
    """A rule does not cover this spelling of its op."""


@dataclass(frozen=True, slots=True)
class Call:
    """An op, its operands in the order of ``op.inputs`` and, for results that are several tensors, their shapes."""

    op: Op
    operands: tuple[Operand, ...]
    shapes: tuple[tuple[int, ...], ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result."""
        return tuple(int(size) for size in self.op.shape)

    def attr(self, name: str, default: Any = None) -> Any:
        """An argument that is not a tensor."""
        found = self.op.attrs.get(name)
        return default if found is None else found

    def number(self, name: str, default: float) -> float:
        """An argument that is a Python number."""
        found = self.op.attrs.get(name)
        return float(found) if isinstance(found, (int, float)) else default

    def operand(self, key: int | str) -> Operand:
        """The operand at a position or with the name that it has in the signature; None when there is none."""
        if isinstance(key, str):
            position = self.op.attrs.get("operands", {}).get(key)
            if isinstance(position, tuple):
                position = position[0] if position else None
            if position is None:
                return None
            key = int(position)
        return self.operands[key] if key < len(self.operands) else None

    def several(self, key: str) -> list[Value]:
        """The operands that were given as one list."""
        positions = self.op.attrs.get("operands", {}).get(key, ())
        positions = (positions,) if isinstance(positions, int) else positions
        return [self._as_value(self.operands[position]) for position in positions]

    def value(self, key: int | str = 0) -> Value:
        """The abstract value of an operand; known arrays become their own statistics."""
        return self._as_value(self.operand(key))

    def optional(self, key: int | str) -> Value | None:
        """The same, or None when the operand was not given."""
        found = self.operand(key)
        return None if found is None else self._as_value(found)

    def known(self, key: int | str) -> npt.NDArray[Any] | None:
        """The true values of an operand that does not depend on weights or inputs."""
        found = self.operand(key)
        return found if isinstance(found, np.ndarray) else None

    def values(self) -> list[Value]:
        """All operands that carry statistics."""
        return [self._as_value(found) for found in self.operands if found is not None]

    def _as_value(self, found: Operand) -> Value:
        if isinstance(found, Value):
            return found
        if isinstance(found, np.ndarray):
            return empirical(found)
        if isinstance(found, tuple) and found:
            return found[0]
        raise NotModelled(f"{self.op.name} reads a tensor of unknown content")
