"""The main job, run to its end for problems other than the study's, and its quick subset on the command line."""

import contextlib
import io
import json
from dataclasses import replace

import pytest
import sympy as sp

import annealvi
from annealvi.cli.program import main
from annealvi.verification.every_check import LEFT_OUT, Verification

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


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Exit status, output, JSON, files and report of a quick verification on the command line."""
    folder = tmp_path_factory.mktemp("quick")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        status = main([*QUICK, "--out", str(folder), "--json", str(folder / "found.json")])
    files = {path.name for path in folder.iterdir()}
    return status, output.getvalue(), json.loads((folder / "found.json").read_text()), files, folder / "report.md"


QUICK = ["verify", "one-component", "--quick", "--device", "cpu", "--set", "space.dimension=32"]


def test_a_quick_verification_says_that_it_is_a_subset(quick):
    status, output, found, files, report = quick
    assert status == 0
    assert found["passed"]
    assert found["quick"]
    assert LEFT_OUT in found["notes"]
    assert "annealvi verify, a quick subset of the checks" in output
    assert "all checks of this subset hold" in " ".join(output.split())
    assert "quick: a subset of the checks; left out are" in " ".join(output.split())
    assert LEFT_OUT in report.read_text()
    assert "a quick subset of the checks" in report.read_text().splitlines()[0]
    assert "paths.png" not in report.read_text()
    assert files == {"report.md", "verify.json", "derivation.md", "found.json"}


def test_a_quick_verification_checks_steps_grids_kernels_and_one_velocity(quick):
    names = " ".join(check["name"] for check in quick[2]["checks"])
    for part in ("step: ", "system: ", "against the KL on a grid, d = 1", "d = 2", "d = 3", "kernel against mpmath"):
        assert part in names
    assert "one velocity against particles" in names
    assert {check["kind"] for check in quick[2]["checks"]} == {"symbolic", "numeric", "monte-carlo"}
    assert "path against particles" not in names


def test_a_quick_verification_fails_where_a_step_is_wrong(monkeypatch, capsys):
    right = annealvi.open_session(annealvi.load_problem("one-component", ["space.dimension=32"]))
    *steps, last = right.derivation.steps
    off = tuple(replace(e, value=e.value * sp.Rational(1001, 1000)) if e.symbol is None else e for e in last.after)
    wrong = replace(right, derivation=replace(right.derivation, steps=(*steps, replace(last, after=off))))
    monkeypatch.setattr("annealvi.session.session.open_session", lambda problem: wrong)
    assert main([*QUICK, "--json", "-"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["passed"]
    assert f"step: {last.rule}" in [check["name"] for check in found["checks"] if not check["passed"]]


def test_only_a_quick_verification_is_one():
    assert Verification("", "", (), (), (), None, (), 0.0).as_dict()["quick"] is False
