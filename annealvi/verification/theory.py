"""The theory of a derived system: its limits, symmetric states and protected pair, each result with its check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from annealvi.verification.check import Check
from annealvi.verification.corners import corner_checks
from annealvi.verification.limit_identities import limit_checks
from annealvi.verification.protected_pair import hold_checks
from derive.asymptotics.hold_and_quench import Pair, protected_pair
from derive.asymptotics.limits import Asymptotics, asymptotics
from derive.asymptotics.linear_stability import BimodalStability, bimodal_stability
from derive.dynamics.derivation import Derivation


@dataclass(frozen=True)
class Theory:
    """The theory of one system. checks: the check of each result, by its name, against the rates of that system."""

    limits: Asymptotics
    stability: BimodalStability
    pair: Pair
    checks: Mapping[str, Check]


def checked_theory(derivation: Derivation) -> Theory | str:
    """The theory of a derivation's system with its checks, or a line with the reason why the theory does not apply."""
    try:
        limits, stability = asymptotics(derivation.system), bimodal_stability(derivation)
    except ValueError as refusal:
        return f"limits, symmetric states and holds: not compared, since {refusal}"
    pair = protected_pair(limits.path)
    checks = [*limit_checks(limits), *corner_checks(derivation.system, stability), *hold_checks(limits, pair)]
    return Theory(limits, stability, pair, dict(checks))
