"""What the components of a mixture have beside their means, one record per parameter.

The problem file, the symbols, the states and the results take the parameters from these records, in their order. The
flow may learn any of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Parameter:
    """A positive number of each component of a mixture.

    Attributes
    ----------
    name : str
        The plural in "s" by which problem files, mixtures and results call the parameter.
    letter, tex : str
        The letter of its symbols in plain text and in LaTeX.
    highest : float
        The upper end of its interval, which begins at zero.
    shared : bool
        Whether equal numbers of a mixture that does not learn them have one symbol, and are plain ones where all are 1.
    """

    name: str
    letter: str
    tex: str
    highest: float
    shared: bool


WEIGHTS = Parameter("weights", "w", "w", highest=1, shared=False)
SCALES = Parameter("scales", "sigma", r"\sigma", highest=math.inf, shared=True)

PARAMETERS = (WEIGHTS, SCALES)
"""All parameters, in the order of their states."""


def parameters_of(mixture: Any) -> dict[str, Any]:
    """A mixture's numbers or symbols by the names of the parameters, one per component each."""
    return {parameter.name: getattr(mixture, parameter.name) for parameter in PARAMETERS}
