"""The main job, run to its end for problems other than the study's own."""

import pytest

import annealvi

PROBLEMS = {
    "one component on two modes": ("one-component",),
    "on a line": ("bimodal", "space.dimension=1", "flow.manifold='euclidean'", "proposal.radius=1.0"),
    "modes at the origin": ("bimodal", "target.means=[[0.0],[0.0]]", "target.scales=[1.0,2.0]", "space.dimension=16"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_every_check_holds(name):
    problem, *overrides = PROBLEMS[name]
    verification = annealvi.verify(annealvi.open_session(annealvi.load_problem(problem, overrides)), "cpu")
    assert [check.name for check in verification.checks if not check.passed] == []
    assert {check.kind for check in verification.checks} == {"symbolic", "numeric", "monte-carlo"}
    assert any("grid" in check.name for check in verification.checks)
    assert any("path against particles" in check.name for check in verification.checks)
    assert verification.checks[-1].name.startswith("negative controls")
