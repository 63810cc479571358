"""Fixed points of the spherical flow of the means, their stability, and how they branch as the temperature varies.

mean flow (`mean_flow`: velocity and linearisation of the means themselves) → zeros of the velocity (`zeros`) → spectra
(`spectra`) → all fixed points at given temperatures (`search`) → one step along a branch (`paths`) → a branch with its
folds and pitchforks (`continuation`) → all branches (`branches`) → table and figure (`table`, `figure`).
"""

from annealvi.fixed_points.branches import Branch, Branches, continue_branches
from annealvi.fixed_points.continuation import Bifurcation
from annealvi.fixed_points.search import FixedPoint, FixedPoints, find_fixed_points
from annealvi.fixed_points.spectra import Spectrum
from annealvi.fixed_points.table import bifurcation_table, fixed_point_table

__all__ = [
    "Bifurcation",
    "Branch",
    "Branches",
    "FixedPoint",
    "FixedPoints",
    "Spectrum",
    "bifurcation_table",
    "continue_branches",
    "find_fixed_points",
    "fixed_point_table",
]
