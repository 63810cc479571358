"""The time that a derivation takes, from the problem file to a compiled rate.

The limits are on processor time, which other work on the machine does not lengthen.
"""

import time

import numpy as np
import pytest
from settings_of_any_size import problem_of

import annealvi
from derive.dynamics.derivation import apply_rules
from derive.dynamics.general import apply_general_rules, general_derivation
from derive.dynamics.instances import Instance
from derive.dynamics.symbolic_problem import symbolise


def test_four_modes_and_four_components_are_derived_and_compiled_within_a_minute(tmp_path, monkeypatch):
    """The caches are empty, so that the equations are derived and every kernel is compiled."""
    monkeypatch.setenv("ANNEALVI_CACHE_DIR", str(tmp_path))
    modes = (3 * np.eye(4)).tolist()
    shares, ones = "[0.25,0.25,0.25,0.25]", "[1.0,1.0,1.0,1.0]"
    overrides = [f"target.means={modes}", *(f"{side}.weights={shares}" for side in ("target", "proposal"))]
    problem = annealvi.load_problem(
        "bimodal", [*overrides, *(f"{side}.scales={ones}" for side in ("target", "proposal"))]
    )
    apply_rules.cache_clear()
    apply_general_rules.cache_clear()
    begun = time.process_time()
    session = annealvi.open_session(problem)
    rates = session.compile("cpu").rhs_at_beta(0.5, session.random_states(2, 0))
    assert np.isfinite(rates).all()
    assert time.process_time() - begun < 60


@pytest.mark.parametrize(("K", "L"), [(9, 9), (25, 2)])
def test_many_modes_or_components_are_derived_in_seconds(K, L):
    """Up to the closed equations at K and L; the general part does not depend on them."""
    setting = symbolise(problem_of(K, L, "sphere")).setting
    apply_general_rules.cache_clear()
    begun = time.process_time()
    closed = Instance(setting, general_derivation(setting)).closed()
    assert time.process_time() - begun < 10
    assert sum(e.symbol is None for e in closed) == K * L + L * (L + 1) // 2
