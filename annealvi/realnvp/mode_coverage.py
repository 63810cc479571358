"""The criterion for a covered mode. It needs no JAX, so that stored results can be read without JAX."""

from __future__ import annotations

import numpy as np

from annealvi.collapse.outcome import LEAST_WEIGHT

MISSED = LEAST_WEIGHT
"""A flow misses a mode, and has collapsed, if it gives the mode less than this share of the mode's own weight."""


def covered(mode_weights: np.ndarray, target_weights: np.ndarray) -> np.ndarray:
    """Whether each mode has its share. mode_weights: (…, K). target_weights: of the same shape, or broadcast."""
    return mode_weights >= MISSED * target_weights
