"""The symptoms: rules over :class:`stablelint.signals.Signals`, one module each, listed in order of their codes."""

from __future__ import annotations

from stablelint.rule import Rule
from stablelint.symptoms.batch_dependence import batch_dependence
from stablelint.symptoms.dead_units import dead_units
from stablelint.symptoms.exploding_gradient import exploding_gradient
from stablelint.symptoms.gradient_decay_in_time import gradient_decay_in_time
from stablelint.symptoms.half_precision_range import half_precision_range
from stablelint.symptoms.identical_units import identical_units
from stablelint.symptoms.learning_rate_fragility import learning_rate_fragility
from stablelint.symptoms.non_finite import non_finite
from stablelint.symptoms.non_finite_on_unusual_input import non_finite_on_unusual_input
from stablelint.symptoms.saturated_attention import saturated_attention
from stablelint.symptoms.similarity_collapse import similarity_collapse
from stablelint.symptoms.vanishing_gradient import vanishing_gradient

SYMPTOMS: tuple[Rule, ...] = (
    vanishing_gradient,
    exploding_gradient,
    non_finite,
    dead_units,
    saturated_attention,
    similarity_collapse,
    identical_units,
    gradient_decay_in_time,
    learning_rate_fragility,
    non_finite_on_unusual_input,
    half_precision_range,
    batch_dependence,
)
