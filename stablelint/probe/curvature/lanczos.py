"""Both ends of the spectrum of a symmetric operator that is known by its products with vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

Product = Callable[[torch.Tensor], torch.Tensor]

#: Bytes that the basis of one run may take; beyond, only the last two vectors are kept.
BUDGET = 512 << 20
#: An end of the spectrum this much smaller than the other needs no more digits than this.
_FLOOR = 0.01
_ROUNDING = 1e-6
#: Products more after both ends have converged: an inner eigenvalue that the start vector happens to hold more of can
#: stand in for the outermost one for a while.
PATIENCE = 5
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Ritz values, smallest first, their residual norms and their weights in the start vector (sum 1).

    ``complete`` says that the Krylov space is exhausted: the values are eigenvalues, all of them when there are as many
    as dimensions.
    """

    values: tuple[float, ...]
    residuals: tuple[float, ...]
    weights: tuple[float, ...]
    complete: bool

    def residual(self, end: int) -> float:
        """That of the smallest (0) or largest (-1) value, relative to the value or a hundredth of the spectrum."""
        size = max(abs(self.values[0]), abs(self.values[-1]))
        return self.residuals[end] / max(abs(self.values[end]), _FLOOR * size) if size > 0 else 0.0

    def reached(self, end: int, tolerance: float) -> bool:
        """Whether an end (0 or -1) of the spectrum is known that well."""
        return self.complete or self.residual(end) <= tolerance

    def mean(self, function: Callable[[float], float]) -> float:
        """Gauss quadrature of the mean of ``function`` over all eigenvalues, for a random start vector."""
        return sum(weight * function(value) for value, weight in zip(self.values, self.weights, strict=True))


def lanczos(
    product: Product, start: torch.Tensor, *, limit: int, tolerance: float = 0.01, budget: int = BUDGET
) -> Spectrum:
    """Run Lanczos from ``start`` until both ends keep a relative residual below ``tolerance``, or ``limit`` products.

    ``start`` is a vector, flat, drawn at random so that no eigenvector is missed. With the basis in memory it is kept
    orthogonal; without it the extreme Ritz values are as good, but copies of them appear beside (Paige 1980,
    doi:10.1016/0024-3795(80)90167-6) and an end that is no outlier takes more products. Residuals are
    |beta_k s_k| (Parlett 1998, theorem 13.2.1).

    Raises ArithmeticError when a product is not finite.
    """
    limit = min(limit, start.numel())
    keep = limit * start.numel() * start.element_size() <= budget
    basis = start.new_empty(limit if keep else 0, start.numel())
    vector = start / math.sqrt(_dot(start, start))
    previous, beta, settled = torch.zeros_like(vector), 0.0, 0
    alphas: list[float] = []
    betas: list[float] = []
    while True:
        new = torch.sub(product(vector), previous, alpha=beta)  # not in place: a product may return its argument
        alphas.append(_dot(new, vector))
        new.sub_(vector, alpha=alphas[-1])
        if keep:
            basis[len(betas)] = vector
            new = _orthogonal(new, basis[: len(alphas)])
        beta = math.sqrt(_dot(new, new))
        found = _solved(alphas, betas, beta)
        size = max(abs(found.values[0]), abs(found.values[-1]))
        done = beta <= _ROUNDING * size or beta == 0 or len(alphas) == start.numel()
        settled = settled + 1 if max(found.residual(0), found.residual(-1)) <= tolerance else 0
        if done or settled > PATIENCE or len(alphas) >= limit:
            return replace(found, complete=done)
        betas.append(beta)
        previous, vector = vector, new / beta


def _orthogonal(vector: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """``vector`` less its part in the rows of ``basis``; once more where that part was most of it (Parlett, 6.9)."""
    before = _dot(vector, vector)
    vector = torch.addmv(vector, basis.T, basis @ vector, alpha=-1)
    again = _dot(vector, vector) < before / 4
    return torch.addmv(vector, basis.T, basis @ vector, alpha=-1) if again else vector


def _dot(first: torch.Tensor, second: torch.Tensor) -> float:
    """Sums of a million products in the vectors' precision, added up in double: fast, and exact enough for 1e9."""
    pieces = (torch.tensor_split(vector, tuple(range(_PIECE, vector.numel(), _PIECE))) for vector in (first, second))
    return sum((float(torch.dot(one, other)) for one, other in zip(*pieces, strict=True)), 0.0)


def _solved(alphas: list[float], betas: list[float], beta: float) -> Spectrum:
    """Eigenvalues of the tridiagonal matrix, with residuals and weights from its eigenvectors."""
    matrix = torch.diag(torch.tensor(alphas, dtype=torch.float64))
    off = torch.diag(torch.tensor(betas, dtype=torch.float64), 1) if betas else torch.zeros_like(matrix)
    matrix = matrix + off + off.T
    if not bool(torch.isfinite(matrix).all()):
        raise ArithmeticError("a product with the operator is not finite")
    values, vectors = torch.linalg.eigh(matrix)
    residuals = (beta * vectors[-1].abs()).tolist()
    return Spectrum(tuple(values.tolist()), tuple(residuals), tuple(vectors[0].square().tolist()), False)
