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


@dataclass(frozen=True)
class Guess:
    """One argument.

    ``kind``: "normal" (N(0, 1) floats), "ids" (integers below ``high``), "ones" and "ones_long", "false" (a bool
    tensor), "full" (integers that all are ``high``), or "value" (``value`` itself, no tensor).
    """

    kind: str
    shape: tuple[int, ...] = ()
    high: int = 2
    value: Any = None

    @property
    def floating(self) -> bool:
        """Whether the argument holds floats."""
        return self.kind in ("normal", "ones")

    def resized(self, axis: int, size: int) -> Guess:
        """The same guess with another size of one axis."""
        shape = list(self.shape)
        shape[axis] = size
        return replace(self, shape=tuple(shape))

    def make(self, generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> Any:
        """The argument itself; floats get ``dtype``."""
        if self.kind == "value":
            return self.value
        if self.kind == "normal":
            return torch.randn(self.shape, generator=generator, dtype=dtype).to(device)
        if self.kind == "ids":
            return torch.randint(0, max(1, self.high), self.shape, generator=generator).to(device)
        if self.kind == "full":
            return torch.full(self.shape, self.high, device=device)
        if self.kind == "false":
            return torch.zeros(self.shape, dtype=torch.bool, device=device)
        return torch.ones(self.shape, dtype=torch.long if self.kind == "ones_long" else dtype, device=device)

    def code(self) -> str:
        """The expression that makes such an argument."""
        sizes = ", ".join(map(str, self.shape))
        size_tuple = f"({sizes},)" if len(self.shape) == 1 else f"({sizes})"
        return {
            "normal": f"torch.randn({sizes})",
            "ids": f"torch.randint(0, {self.high}, {size_tuple})",
            "full": f"torch.full({size_tuple}, {self.high})",
            "false": f"torch.zeros({sizes}, dtype=torch.bool)",
            "ones": f"torch.ones({sizes})",
            "ones_long": f"torch.ones({sizes}, dtype=torch.long)",
            "value": repr(self.value),
        }[self.kind]

    def __str__(self) -> str:
        if self.kind == "value":
            return repr(self.value)
        dtype = {"normal": "float", "ones": "float", "false": "bool"}.get(self.kind, "int")
        return f"{dtype}[{', '.join(map(str, self.shape))}]"


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
        tensors = [(name, guess) for name, guess in self.guesses if guess.kind != "value"]
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
