"""Fixed points of the flow, their stability, and how they branch as the temperature varies.

The modules in the order in which they build on one another:

* `tangent_spaces`, `symmetries`: moves on spheres; the problem's symmetries.
* `mean_flow`: velocity and linearisation of the components themselves, of their means, log weights and log scales.
* `zeros`, `spectra`, `completeness`, `search`: zeros of the velocity, their spectra, a check that none is missing, and
  all fixed points at given temperatures.
* `curve_steps`, `continuation`, `branches`: one step along a branch, one branch with its folds and pitchforks, and all
  branches.
* `table`, `bifurcation_diagram`: the results for people.
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
