"""All limits of the theory, derived from the bimodal system of two components of equal weight."""

from __future__ import annotations

from dataclasses import dataclass

from derive.asymptotics.equal_weights import EqualWeights, equal_weights
from derive.asymptotics.growth_exponents import HOT_KINDS, HotGrowth, hot_growth, small_probability
from derive.asymptotics.high_temperature import HighTemperature, high_temperature
from derive.asymptotics.large_separation import large_separation
from derive.asymptotics.near_equal import near_equal
from derive.asymptotics.quasi_static import QuasiStatic, quasi_static
from derive.asymptotics.small_overlaps import small_overlaps
from derive.asymptotics.transverse_growth import SymmetricPath, symmetric_path
from derive.objects.expansion import Expansion
from derive.objects.short_repr import short_repr
from derive.objects.system import OdeSystem


@dataclass(frozen=True)
class Asymptotics:
    """Every limit of the bimodal system.

    Attributes
    ----------
    pair : EqualWeights
        The system in F and G.
    path : SymmetricPath
        Its rates around b = m_1 − m_2 = 0.
    hot : HighTemperature
        The limit β → 0.
    slow : QuasiStatic
        The limit t0 → ∞.
    growth : tuple of HotGrowth
        The growth exponent Λ_hot of each schedule kind.
    expansions : tuple of Expansion
        Every expansion, including those of `hot` and `slow`; names are unique.
    """

    pair: EqualWeights
    path: SymmetricPath
    hot: HighTemperature
    slow: QuasiStatic
    growth: tuple[HotGrowth, ...]
    expansions: tuple[Expansion, ...]

    __repr__ = short_repr

    def _repr_latex_(self) -> str:
        return "\n\n".join(f"$${formula}$$" for formula in self.latex().values())

    def __post_init__(self) -> None:
        names = [expansion.name for expansion in self.expansions]
        if len(set(names)) < len(names):
            raise ValueError(f"an expansion's name occurs twice: {sorted(names)}")

    def latex(self) -> dict[str, str]:
        """Return each result by name."""
        exponents = {f"hot growth, {growth.kind}": growth.latex() for growth in self.growth}
        return {
            **self.path.latex(),
            **self.hot.latex(),
            **self.slow.latex(),
            **exponents,
            **{e.name: e.latex() for e in self.expansions},
        }


def asymptotics(system: OdeSystem) -> Asymptotics:
    """Derive every limit of the bimodal system. Raises ValueError for another system."""
    pair = equal_weights(system)
    path = symmetric_path(pair)
    hot, slow = high_temperature(pair), quasi_static(path)
    growth = tuple(hot_growth(kind, path) for kind in HOT_KINDS)
    expansions = (
        *hot.path,
        *large_separation(pair),
        *small_overlaps(pair),
        *near_equal(pair),
        *slow.expansions,
        *(small_probability(exponent) for exponent in growth),
    )
    return Asymptotics(pair, path, hot, slow, growth, expansions)
