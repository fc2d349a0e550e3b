"""The causes: rules over :class:`stablelint.graph.Graph`, one module each, listed here in order of their codes."""

from __future__ import annotations

from stablelint.causes.activation.deep_sigmoid_chain import deep_sigmoid_chain
from stablelint.causes.activation.squashed_logits import squashed_logits
from stablelint.causes.attention.unscaled_attention import unscaled_attention
from stablelint.causes.gradient_path.cut_gradient_path import cut_gradient_path
from stablelint.causes.initialization.bad_init_scale import bad_init_scale
from stablelint.causes.initialization.uninitialized_parameter import uninitialized_parameter
from stablelint.causes.residual.norm_on_skip import norm_on_skip
from stablelint.causes.residual.post_activation_residual import post_activation_residual
from stablelint.rule import Rule

CAUSES: tuple[Rule, ...] = (
    deep_sigmoid_chain,
    squashed_logits,
    norm_on_skip,
    post_activation_residual,
    unscaled_attention,
    bad_init_scale,
    uninitialized_parameter,
    cut_gradient_path,
)
