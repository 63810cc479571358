"""Walks a throw-away learned parameter through a copy of the package that has it. Run as a program of its own.

The parameter `tails` of the components enters no density. Its slope is made up: along the logarithm of a component's
tail it is the component's weight w, and so the tail falls as exp(-w t), by the derived equations and by the particles.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import annealvi
from annealvi.cli.program import main
from annealvi.show.path_figures import draw_paths
from derive.dynamics.learned import LEARNED
from derive.objects.notation import families_of, symbol_tex
from derive.objects.parameters import PARAMETERS
from derive.problem.problem_file import load_problem, problem_to_toml
from derive.problem.specification import LEARNABLE, BadInput
from kernels.particles import shapes

TAILS, WEIGHTS, MEANS = np.array([1.5, 0.5]), np.array([0.25, 0.75]), [[3, 0.2], [0.3, 2.9]]
CHANGES = (
    'flow.learn=["tails", "means", "scales"]',
    "proposal.tails=[1.5, 0.5]",
    "proposal.weights=[0.25, 0.75]",
    "space.dimension=4",
    'schedule.kind="constant"',
    "schedule.T0=2",
)
PROBLEM = load_problem("bimodal", CHANGES)
SESSION = annealvi.open_session(PROBLEM)


def exact(t: np.ndarray) -> np.ndarray:
    return TAILS * np.exp(-np.multiply.outer(t, WEIGHTS))


def lists_of_parameters() -> None:
    names = [parameter.name for parameter in PARAMETERS]
    assert names == ["weights", "scales", "tails"]
    assert LEARNABLE == ("means", *names) == shapes.LEARNABLE
    assert [learned.name for learned in LEARNED] == names


def problem_file() -> None:
    assert PROBLEM.flow.learn == ("means", "scales", "tails")
    assert 'learn = ["means", "scales", "tails"]' in problem_to_toml(PROBLEM)
    with pytest.raises(BadInput, match=r"proposal\.tails\[0\]"):
        load_problem("bimodal", ("proposal.tails=[-1, 1]",))


def equations() -> None:
    found = {symbol.name: rate for symbol, rate in annealvi.equations(PROBLEM).items()}
    assert [*found] == ["m_1", "m_2", "s", "sigma_1", "sigma_2", "alpha_1", "alpha_2"]
    proposal = SESSION.derivation.setting.proposal
    for i, (symbol, weight) in enumerate(zip(proposal.tails, proposal.weights, strict=True), 1):
        assert found[symbol.name] == -weight * symbol
        assert symbol_tex(symbol) == rf"\alpha_{{{i}}}"
    assert [family.plain for family in families_of(["alpha_1"])] == ["alpha_i: the proposal's tails"]


def output_of_rhs() -> None:
    by_means = {"means": MEANS, "tails": [3.0, 2.0]}
    by_name = {"states": dict(zip(SESSION.state_names, [0.3, 0.1, 0.2, 1.0, 1.1, 3.0, 2.0], strict=True))}
    for state in (by_means, by_name):
        rates = annealvi.velocity(PROBLEM, state).parameters
        assert [*rates] == ["weights", "scales", "tails"]
        assert rates["weights"] == (0.0, 0.0) != rates["scales"]
        assert rates["tails"] == (-0.75, -1.5)
    with tempfile.TemporaryDirectory() as folder:
        state, out = Path(folder) / "state.json", Path(folder) / "out.json"
        state.write_text(json.dumps(by_name), encoding="utf-8")
        options = [word for change in CHANGES for word in ("--set", change)]
        assert main(["rhs", "bimodal", *options, "--state", str(state), "--json", str(out)]) == 0
        result = json.loads(out.read_text(encoding="utf-8"))
    assert result["tails"] == [-0.75, -1.5]
    assert result["states"]["alpha_2"] == -1.5


def derived_path() -> None:
    places = SESSION.positions_of(PARAMETERS[-1])
    assert places == [5, 6]
    paths = annealvi.integrate(SESSION, n=2, t_end=1.0, points=3, device="cpu")
    np.testing.assert_allclose(paths.values[:, :, places], [exact(paths.t)] * 2, rtol=1e-7)
    with tempfile.TemporaryDirectory() as folder:
        assert draw_paths(paths, Path(folder) / "paths.png").stat().st_size > 0


def particles() -> None:
    paths = annealvi.simulate(SESSION, replicas=2, particles=4, dt=0.1, t_end=0.3, points=4, device="cpu", seed=1)
    np.testing.assert_allclose(paths.values[:, :, [5, 6]], [exact(paths.t)] * 2, rtol=1e-12)
    assert np.abs(paths.values[:, -1, [3, 4]] - 1).min() > 1e-3


if __name__ == "__main__":
    for stage in (lists_of_parameters, problem_file, equations, output_of_rhs, derived_path, particles):
        stage()
        print("walked", stage.__name__, file=sys.stdout)
