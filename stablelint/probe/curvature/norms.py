"""Global gradient norms over batches and seeds, from which a clipping threshold is read."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from stablelint.errors import TargetError
from stablelint.probe.curvature.problem import Problem
from stablelint.probe.curvature.vectors import gradients
from stablelint.signals.curvature import GradientNorms

#: Draws of weights and batch where they can be drawn; the 95th percentile of 20 lies between the largest two.
DRAWS = 20


def gradient_norms(problems: Iterable[Problem]) -> GradientNorms:
    """The Euclidean norm of the gradient over all parameters, what ``clip_grad_norm_`` compares, of each problem.

    One forward and backward pass each; the problems are taken one at a time and everything is restored.

    Raises TargetError for no problem, and when a gradient is not finite.
    """
    norms: list[float] = []
    for problem in problems:
        with problem.settled():
            squares = [float(torch.linalg.vector_norm(g, dtype=torch.float64)) ** 2 for g in gradients(problem)]
        norms.append(math.sqrt(sum(squares)))
        if not math.isfinite(norms[-1]):
            raise TargetError("the gradient is not finite, so there is no norm to clip it at")
    if not norms:
        raise TargetError("there is no batch to take gradients of")
    return GradientNorms(tuple(sorted(norms)), cost=float(len(norms)))
