"""What a simulation or a grid minimises: the tempered reverse KL, the forward KL, or both in a fixed proportion.

With a share r of the forward KL the objective is, up to constants,

    (1 - r) E_q[log q - beta log p* - (1 - beta) log q0] - r E_p*[log q],   q0 = N(0, reference_scale^2 I).

A reference of infinite scale is flat, so that its term is absent. beta tempers the reverse part alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Objective:
    """The proportion of the two divergences, and the scale of the reference.

    Attributes
    ----------
    forward_share
        The share r of the forward KL, from 0 to 1.
    reference_scale
        Positive; infinite where the tempered target is p*^beta.
    """

    forward_share: float = 0.0
    reference_scale: float = math.inf

    def __post_init__(self) -> None:
        if not 0 <= self.forward_share <= 1:
            raise ValueError(f"the share of the forward KL must lie from 0 to 1, not {self.forward_share!r}")
        if not self.reference_scale > 0:
            raise ValueError(f"reference_scale must be positive, not {self.reference_scale!r}")

    @property
    def has_reference(self) -> bool:
        """Whether the reverse part has a reference."""
        return self.forward_share < 1 and self.reference_scale < math.inf


TEMPERED_REVERSE_KL = Objective()
