"""Curvature and step size: the Hessian's ends, gradient noise, gradient norms, block Jacobians."""

from stablelint.probe.curvature.hessian import hessian
from stablelint.probe.curvature.jacobian import block_spectra
from stablelint.probe.curvature.norms import gradient_norms
from stablelint.probe.curvature.problem import Problem, pose
from stablelint.probe.curvature.samples import agreement, noise_scale, sample_gram
from stablelint.probe.curvature.summary import curvature
from stablelint.signals.curvature import warmup

__all__ = [
    "Problem",
    "agreement",
    "block_spectra",
    "curvature",
    "gradient_norms",
    "hessian",
    "noise_scale",
    "pose",
    "sample_gram",
    "warmup",
]
