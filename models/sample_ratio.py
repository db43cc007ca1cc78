"""Whether the sizes of the arms are those that assignment should give.

Where they are not, assignment or the logging of exposures is broken, and no other figure of the
experiment means anything. The test holds the counts under a Dirichlet mixture of ratios against the
intended ones, so it may be looked at continuously. Lindon and Malek, "Anytime-valid inference for
multinomial count data", NeurIPS 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

BROKEN: Final = 0.001
"""A ratio less likely than this is held for a fault; it is not to be found by chance."""
_STRENGTH: Final = 1_000.0
"""How closely the mixture lies around the intended ratio: as if so many had been seen."""


def sample_ratio_p(counts: Sequence[int], weights: Sequence[float]) -> float:
    """How likely the counts are under the weights; always valid.

    Args:
        counts: exposed users by arm.
        weights: the shares that they should have, above 0.

    >>> sample_ratio_p([5_020, 4_980], [0.5, 0.5])
    1.0
    >>> sample_ratio_p([5_300, 4_700], [0.5, 0.5]) < BROKEN
    True
    """
    whole = sum(weights)
    evidence = math.lgamma(_STRENGTH) - math.lgamma(_STRENGTH + sum(counts))
    for count, weight in zip(counts, weights, strict=True):
        share = weight / whole
        prior = _STRENGTH * share
        evidence += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return math.exp(min(-evidence, 0.0))
