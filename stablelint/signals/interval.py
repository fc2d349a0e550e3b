"""How sure a mean over few draws is: Student's t around it, with a prior on the spread between draws.

Three draws alone say little of their own spread: their standard deviation is below a third of the true one every
tenth time, and a verdict that trusts it flips. Networks of one architecture differ by a spread that is much alike for
all of them, so that spread is taken as a scaled inverse chi-squared prior (Gelman et al., Bayesian Data Analysis,
section 2.6): it counts as ``PRIOR_DRAWS`` more degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean

#: Two-sided: one interval in a thousand does not hold the mean over all draws.
LEVEL = 0.999
#: Degrees of freedom that the prior counts for.
PRIOR_DRAWS = 4
#: Standard deviation between draws of log10 of a sensitivity, in decades, and of a share or a peak: above those of nine
#: out of ten models of `scripts/measure_flips.py`.
DECADES, SHARE = 0.25, 0.02
#: The same of log10 of the factor per time step: LSTM, GRU and RNN of 16 to 128 units over 20 to 100 steps have 0.007
#: to 0.027 over 20 draws.
RETENTION = 0.03


def half_width(values: Sequence[float], prior: float) -> float | None:
    """Half of the interval around the mean of ``values``; None for fewer than two, infinite if one is not finite.

    ``prior`` is the standard deviation between draws that is expected before any was seen, in the unit of ``values``.
    """
    draws = len(values)
    if draws < 2:
        return None
    if not all(map(math.isfinite, values)):
        return math.inf
    centre = fmean(values)
    freedom = PRIOR_DRAWS + draws - 1
    variance = (PRIOR_DRAWS * prior**2 + math.fsum((value - centre) ** 2 for value in values)) / freedom
    return quantile(LEVEL, freedom) * math.sqrt(variance / draws)


def quantile(level: float, freedom: int) -> float:
    """The two-sided quantile of Student's t (Abramowitz & Stegun 26.7.5; within 1.5% from 5 degrees of freedom on)."""
    z = NormalDist().inv_cdf(0.5 + level / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))
