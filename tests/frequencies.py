"""Sampled frequencies against a law."""

import numpy as np
from scipy import stats


def chi_squared_p(index, law):
    """p-value of sampled indices under the law; cells expecting fewer than 5 are pooled."""
    index, law = np.asarray(index).ravel(), np.asarray(law)
    counts = np.bincount(index, minlength=law.size)
    assert counts[law == 0].sum() == 0, "something of probability 0 was drawn"
    expected = law * index.size
    small = expected < 5
    counts, expected = (
        np.append(x[~small], x[small].sum()) if small.any() else x for x in (counts, expected)
    )
    counts, expected = counts[expected > 0], expected[expected > 0]
    if counts.size == 1:
        return 1.0
    return stats.chisquare(counts, expected * (counts.sum() / expected.sum())).pvalue
