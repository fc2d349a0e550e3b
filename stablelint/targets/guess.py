"""A guessed argument of a forward pass: shape and kind, from which a tensor or a line of code is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from stablelint.inputs import Inputs

#: Samples per kind of input: enough to measure statistics over samples, few enough to be quick.
VECTOR_BATCH = 16
SEQUENCE_BATCH = 8
SMALL_IMAGE_BATCH = 4
LARGE_IMAGE_BATCH = 2
SMALL_IMAGE = 64

#: Length of a sequence that nothing determines.
LENGTH = 16

#: Kinds of guesses that do not carry the samples of a batch in their first axis.
_NO_DATA = ("value", "numbers", "lengths", "tuple", "list", "dict")


@dataclass(frozen=True)
class Guess:
    """One argument.

    ``kind``: "normal" (N(0, 1) floats), "unit" (floats between 0 and 1), "ids" (integers from ``low``, below
    ``high``), "ones", "ones_long", "zeros" and "zeros_long", "false" and "true" (bool tensors), "full" (integers that
    all are ``high``), "lengths" (a tensor of integers from ``high`` downwards), "numbers" (the same as a list),
    "count" (0, 1, 2, ...), "one_hot" (along the last axis), "ring" (the adjacency of a ring with loops, each row with
    sum 1), "value" (``value`` itself, no tensor), or a container of
    further guesses: "tuple", "list" or "dict" of ``parts``, by name in a dict.
    """

    kind: str
    shape: tuple[int, ...] = ()
    high: int = 2
    value: Any = None
    low: int = 0
    parts: tuple[tuple[str, Guess], ...] = ()

    @property
    def floating(self) -> bool:
        """Whether the argument holds floats."""
        return self.kind in ("normal", "ones", "zeros", "unit", "one_hot", "ring")

    @property
    def integers(self) -> bool:
        """Whether the argument holds integers or truth values."""
        return self.kind in ("ids", "ones_long", "zeros_long", "false", "true", "full", "lengths", "count")

    def resized(self, axis: int, size: int) -> Guess:
        """The same guess with another size of one axis."""
        shape = list(self.shape)
        shape[axis] = size
        return replace(self, shape=tuple(shape))

    def rebatched(self, old: int, new: int) -> Guess:
        """The same guess for another number of samples, wherever such an axis is: states have it in the middle."""
        if self.parts:
            return replace(self, parts=tuple((name, each.rebatched(old, new)) for name, each in self.parts))
        axes = [axis for axis, size in enumerate(self.shape[:2]) if size == old]
        return self.resized(axes[0], new) if axes else self

    def make(self, generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> Any:
        """The argument itself; floats get ``dtype``."""
        if self.kind in ("tuple", "list", "dict"):
            made = {name: each.make(generator, device, dtype) for name, each in self.parts}
            return made if self.kind == "dict" else tuple(made.values()) if self.kind == "tuple" else [*made.values()]
        if self.kind in ("value", "numbers"):
            return self._lengths() if self.kind == "numbers" else self.value
        if self.kind in ("normal", "unit"):
            draw = torch.randn if self.kind == "normal" else torch.rand
            return draw(self.shape, generator=generator, dtype=dtype).to(device)
        if self.kind == "ids":
            return torch.randint(self.low, max(self.low + 1, self.high), self.shape, generator=generator).to(device)
        if self.kind == "one_hot":
            index = torch.randint(0, self.shape[-1], self.shape[:-1], generator=generator)
            return torch.eye(self.shape[-1], dtype=dtype)[index].to(device)
        if self.kind == "ring":
            one = torch.eye(self.shape[-1], dtype=dtype)
            rows = torch.arange(self.shape[-2] if len(self.shape) > 1 else 1) % self.shape[-1]
            return ((one + one.roll(1, 0) + one.roll(-1, 0)) / 3)[rows].expand(self.shape).clone().to(device)
        if self.kind == "lengths":
            return torch.tensor(self._lengths())  # pack_padded_sequence wants them on the CPU
        if self.kind == "count":
            return torch.arange(self.shape[-1], device=device).expand(self.shape).clone()
        if self.kind == "full":
            return torch.full(self.shape, self.high, device=device)
        kinds = {"ones_long": torch.long, "zeros_long": torch.long, "false": torch.bool, "true": torch.bool}
        fill = torch.zeros if self.kind in ("zeros", "zeros_long", "false") else torch.ones
        return fill(self.shape, dtype=kinds.get(self.kind, dtype), device=device)

    def _lengths(self) -> list[int]:
        """Longest first, as pack_padded_sequence wants them; at least half of the longest."""
        return [max(self.high - index, (self.high + 1) // 2) for index in range(self.shape[0])]

    def code(self) -> str:
        """The expression that makes such an argument."""
        if self.parts:
            inner = [each.code() for _, each in self.parts]
            if self.kind == "dict":
                return "{" + ", ".join(f'"{name}": {each.code()}' for name, each in self.parts) + "}"
            comma = "," if len(inner) == 1 and self.kind == "tuple" else ""
            return f"[{', '.join(inner)}]" if self.kind == "list" else f"({', '.join(inner)}{comma})"
        sizes = ", ".join(map(str, self.shape))
        size_tuple = f"({sizes},)" if len(self.shape) == 1 else f"({sizes})"
        choices = {
            "normal": f"torch.randn({sizes})" if self.shape else "torch.randn(())",
            "unit": f"torch.rand({size_tuple})",
            "ids": f"torch.randint({self.low}, {self.high}, {size_tuple})",
            "full": f"torch.full({size_tuple}, {self.high})",
            "false": f"torch.zeros({sizes}, dtype=torch.bool)",
            "true": f"torch.ones({sizes}, dtype=torch.bool)",
            "ones": f"torch.ones({size_tuple})" if not self.shape else f"torch.ones({sizes})",
            "zeros": f"torch.zeros({size_tuple})" if not self.shape else f"torch.zeros({sizes})",
            "ones_long": f"torch.ones({sizes}, dtype=torch.long)",
            "zeros_long": f"torch.zeros({sizes}, dtype=torch.long)",
            "value": repr(self.value),
            "tuple": "()",
            "list": "[]",
            "dict": "{}",
        }
        if self.kind in choices:
            return choices[self.kind]
        if self.kind == "ring":
            one = f"torch.eye({self.shape[-1]})"
            return f"(({one} + {one}.roll(1, 0) + {one}.roll(-1, 0)) / 3).expand({sizes})"
        if self.kind == "one_hot":
            index = ", ".join(map(str, self.shape[:-1]))
            return f"torch.eye({self.shape[-1]})[torch.randint(0, {self.shape[-1]}, ({index},))]"
        if self.kind == "count":
            return f"torch.arange({self.shape[-1]}).expand({sizes})"
        return f"torch.tensor({self._lengths()})" if self.kind == "lengths" else repr(self._lengths())

    def __str__(self) -> str:
        if self.kind in ("tuple", "list", "dict"):
            named = [f"{name}: {each}" if self.kind == "dict" else str(each) for name, each in self.parts]
            around = {"tuple": "()", "list": "[]", "dict": "{}"}[self.kind]
            return around[0] + ", ".join(named) + around[1]
        if self.kind in ("value", "numbers"):
            return repr(self._lengths() if self.kind == "numbers" else self.value)
        dtype = "float" if self.floating else "bool" if self.kind in ("false", "true") else "int"
        return f"{dtype}[{', '.join(map(str, self.shape))}]"


def leaves(guess: Guess) -> list[Guess]:
    """The guess itself, or all those inside a container."""
    return [leaf for _, each in guess.parts for leaf in leaves(each)] if guess.parts else [guess]


@dataclass(frozen=True)
class Proposal:
    """Guessed arguments by parameter name, in the order of the signature; ``keywords`` are passed by name."""

    guesses: tuple[tuple[str, Guess], ...]
    keywords: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> Guess:
        return dict(self.guesses)[name]

    def items(self) -> tuple[tuple[str, Guess], ...]:
        """The parameters and their guesses."""
        return self.guesses

    def changed(self, changes: Mapping[str, Guess]) -> Proposal:
        """The same proposal with some guesses replaced; a new name is added as a keyword."""
        old = dict(self.guesses)
        added = frozenset(changes) - frozenset(old)
        return Proposal(tuple((old | dict(changes)).items()), self.keywords | added)

    @property
    def main(self) -> str:
        """The parameter that carries the data: the first tensor of at least two axes, else the first tensor."""
        tensors = [(name, guess) for name, guess in self.guesses if guess.shape and guess.kind not in _NO_DATA]
        wide = [name for name, guess in tensors if len(guess.shape) >= 2]
        return wide[0] if wide else tensors[0][0] if tensors else self.guesses[0][0]

    def inputs(self, seed: int, device: torch.device, dtype: torch.dtype) -> Inputs:
        """Real inputs; the same seed gives the same values."""
        generator = torch.Generator().manual_seed(seed)
        made = {name: guess.make(generator, device, dtype) for name, guess in self.guesses}
        args = [value for name, value in made.items() if name not in self.keywords]
        return Inputs(*args, **{name: value for name, value in made.items() if name in self.keywords})

    def code(self) -> str:
        """The function to paste into the user's file."""
        if not self.keywords:
            args = ", ".join(guess.code() for _, guess in self.guesses)
            return (
                f"def example_inputs(): return ({args},)"
                if len(self.guesses) == 1
                else (f"def example_inputs(): return ({args})")
            )
        if all(name in self.keywords for name, _ in self.guesses):
            pairs = ", ".join(f'"{name}": {guess.code()}' for name, guess in self.guesses)
            return f"def example_inputs(): return {{{pairs}}}"
        args = ", ".join(
            f"{name}={guess.code()}" if name in self.keywords else guess.code() for name, guess in self.guesses
        )
        return f"def example_inputs(): return stablelint.Inputs({args})"

    def __str__(self) -> str:
        return ", ".join(f"{name} = {guess}" for name, guess in self.guesses)
