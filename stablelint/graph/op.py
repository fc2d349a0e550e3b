"""One recorded operation and one parameter, as rules see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stablelint.site import NOWHERE, Site


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter or buffer of the model with the statistics of its initial values.

    ``mean``, ``std`` (population) and ``rms`` are over all elements; NaN when values are not finite.
    ``row_similarity`` is the mean cosine between different rows of a matrix (1.0: all output units compute the
    same thing, 0 for independent rows) and None below two dimensions. ``parts`` holds the (mean, std) of three and of
    four equal parts of a vector where those differ: the gates of a recurrent cell have one bias. ``diagonals`` holds
    the mean diagonal of each of the (one to four) square blocks of a matrix where some stand out. ``mask`` is the first
    matrix (True: open) of a buffer that masks attention scores: nothing but zeros and one number that closes.
    ``init_site`` is the line of user code that last wrote the values, ``init`` the name of the function that did
    ("uniform_", "normal_", ...). Values that were read from a checkpoint have the ``init`` "checkpoint" and no line.
    """

    name: str
    shape: tuple[int, ...]
    mean: float
    std: float
    rms: float
    trainable: bool = True
    buffer: bool = False
    row_similarity: float | None = None
    parts: tuple[tuple[tuple[float, float], ...], ...] = ()
    diagonals: tuple[float, ...] = ()
    mask: tuple[tuple[bool, ...], ...] | None = None
    init: str | None = None
    init_site: Site | None = None

    @property
    def numel(self) -> int:
        """Number of elements."""
        total = 1
        for size in self.shape:
            total *= size
        return total


@dataclass(frozen=True, slots=True)
class Op:
    """One node of the trace.

    ``name`` is canonical: one ``softmax`` for ``torch.softmax``, ``F.softmax``, ``Tensor.softmax`` and
    ``nn.Softmax`` (the table is ``stablelint.trace.canonical``). Leaves are named ``input``, ``parameter`` and
    ``constant``. ``inputs`` are the indices of the tensor operands in the order of the signature; ``attrs``
    the remaining arguments by canonical name (``dim``, ``p``, ``scale``, ``alpha``, ``other`` for a Python
    scalar operand, ``equation``, ``operands``: positions of keyword operands such as ``weight`` in ``inputs``).
    ``scope`` is the stack of module paths, outermost first, ``calls`` numbers the call of each, so that repeated
    calls of one module are kept apart, and ``types`` holds their classes. ``known`` is the value of a small tensor
    that does not depend on weights or float inputs (masks, lengths, scalars). ``guessed`` marks an op whose result
    depends on data that a trace does not have. ``differentiable`` says whether autograd was on (no ``no_grad``),
    ``live`` whether the op reaches an output.
    """

    index: int
    name: str
    inputs: tuple[int, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    site: Site = NOWHERE
    scope: tuple[str, ...] = ()
    calls: tuple[int, ...] = ()
    types: tuple[str, ...] = ()
    parameter: Parameter | None = None
    known: Any = None
    inplace: bool = False
    guessed: bool = False
    differentiable: bool = True
    live: bool = True

    @property
    def floating(self) -> bool:
        """Whether the values are real or complex floating point numbers."""
        return self.dtype.startswith(("float", "bfloat", "complex"))

    @property
    def numel(self) -> int:
        """Number of elements."""
        total = 1
        for size in self.shape:
            total *= size
        return total

    def __str__(self) -> str:
        return f"%{self.index} {self.name}{list(self.shape)} {self.site}"
