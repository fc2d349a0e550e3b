"""The ends of the Hessian's spectrum by Lanczos, from Hessian-vector products alone."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import torch

from stablelint.errors import NO_GRADIENT, TargetError, TraceTargetError
from stablelint.probe.curvature.lanczos import lanczos
from stablelint.probe.curvature.problem import Problem
from stablelint.probe.curvature.vectors import flat, gradients, split
from stablelint.signals.curvature import Hessian

#: Products at most. 1% is usually reached within 10 to 30; the smallest eigenvalue takes longer.
LIMIT = 64
#: Forward and backward passes that one product costs: the pass back through a forward and a backward pass (measured:
#: 2.0 on a transformer, 2.3 to 2.9 on a ResNet), and two of them.
_DOUBLE, _DIFFERENCES = 2.5, 2.0
_ASYMMETRY = 0.01

Product = Callable[[torch.Tensor], torch.Tensor]


def hessian(problem: Problem, *, limit: int = LIMIT, tolerance: float = 0.01, differences: bool = False) -> Hessian:
    """The largest and the smallest eigenvalue of the Hessian of ``problem`` with respect to its parameters.

    The Hessian-vector product is the derivative of the gradient along a vector (Pearlmutter 1994,
    doi:10.1162/neco.1994.6.1.147) by a second backward pass over one kept graph, which takes three to four times the
    memory of a training step. Where an op has no second derivative (the products then raise or are not symmetric), or
    with ``differences``, central differences of gradients take its place, good to about a percent on smooth networks.
    Lanczos vectors take at most :data:`~stablelint.probe.curvature.lanczos.BUDGET` bytes. Everything is restored.

    Args:
        problem: see :func:`~stablelint.probe.curvature.problem.pose`.
        limit: products at most.
        tolerance: relative residual at which an eigenvalue counts as found.
        differences: do not try a second backward pass.

    Raises TargetError when the loss or a product is not finite, TraceTargetError when nothing is trainable.
    """
    with problem.settled():
        parameters = list(problem.named_parameters.values())
        if not parameters:
            raise TraceTargetError(NO_GRADIENT)
        if not differences:
            with contextlib.suppress(RuntimeError):  # some op on the way has no second derivative
                product = _by_double_backward(problem, parameters)
                if _symmetric(product, flat(parameters), _precision(parameters)):
                    return _found(parameters, product, limit, tolerance, smooth=True)
        return _found(parameters, _by_differences(problem, parameters), limit, tolerance, smooth=False)


def _precision(parameters: list[torch.nn.Parameter]) -> float:
    return max(torch.finfo(parameter.dtype).eps for parameter in parameters)


def _symmetric(product: Product, like: torch.Tensor, precision: float) -> bool:
    """Whether u.Hv = v.Hu for two random vectors.

    Autograd skips ``once_differentiable`` functions, and backward passes of the user's that detach, without a word;
    the Hessian that is left is not symmetric. Rounding in single precision is about 1e-5 of the typical u.Hv.
    """
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.randn(like.numel(), generator=generator).to(like) for _ in range(2))
    images = product(first), product(second)
    gap = abs(float(torch.dot(images[0], second) - torch.dot(images[1], first)))
    return gap <= max(_ASYMMETRY, 10 * precision) * max(float(torch.linalg.vector_norm(image)) for image in images)


def _found(
    parameters: list[torch.nn.Parameter],
    product: Product,
    limit: int,
    tolerance: float,
    *,
    smooth: bool,
) -> Hessian:
    made = [0]

    def counted(vector: torch.Tensor) -> torch.Tensor:
        made[0] += 1
        return product(vector)

    generator = torch.Generator().manual_seed(0)
    like = flat(parameters)
    start = torch.randn(like.numel(), generator=generator).to(like)
    try:
        spectrum = lanczos(counted, start, limit=limit, tolerance=tolerance)
    except ArithmeticError as error:
        raise TargetError("the second derivative of the loss is not finite") from error
    residuals = spectrum.residual(-1), spectrum.residual(0)
    return Hessian(
        largest=spectrum.values[-1],
        smallest=spectrum.values[0],
        residuals=residuals,
        converged=(spectrum.reached(-1, tolerance), spectrum.reached(0, tolerance)),
        mean_absolute=spectrum.mean(abs),
        parameters=like.numel(),
        products=made[0],
        by="double backward" if smooth else "differences of gradients",
        cost=1 + (made[0] + 2) * _DOUBLE if smooth else made[0] * _DIFFERENCES,
    )


def _by_double_backward(problem: Problem, parameters: list[torch.nn.Parameter]) -> Product:
    grads = torch.autograd.grad(
        problem.value(), parameters, create_graph=True, allow_unused=True, materialize_grads=True
    )
    curved = [place for place, grad in enumerate(grads) if grad.requires_grad]

    def product(vector: torch.Tensor) -> torch.Tensor:
        if not curved:  # the loss is linear in the parameters
            return torch.zeros_like(vector)
        pieces = list(split(vector, parameters))
        found = torch.autograd.grad(
            [grads[place] for place in curved],
            parameters,
            [pieces[place] for place in curved],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return flat(found)

    return product


def _by_differences(problem: Problem, parameters: list[torch.nn.Parameter]) -> Product:
    """(g(w + s v) - g(w - s v)) / 2s, with s = sqrt(eps) (1 + |w|).

    eps^(1/3) would balance truncation and rounding on smooth functions; the shorter step crosses fewer kinks of ReLUs,
    each of which counts as curvature that the loss does not have.
    """
    origin = flat(parameters)
    step = math.sqrt(_precision(parameters)) * (1 + float(torch.linalg.vector_norm(origin)))

    def at(position: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            for parameter, piece in zip(parameters, split(position, parameters), strict=True):
                parameter.copy_(piece)
        return flat(gradients(problem))

    def product(vector: torch.Tensor) -> torch.Tensor:
        size = float(torch.linalg.vector_norm(vector))
        moved = vector * (step / size)
        return (at(origin + moved) - at(origin - moved)) * (size / (2 * step))

    return product
