"""What does not know covariances refuses such a problem in one line, before any computation."""

from __future__ import annotations

import pytest

import annealvi
from annealvi.cli.program import main
from annealvi.realnvp.training import Architecture
from derive.problem.specification import BadInput

BUILT_IN = {"full-covariance": "flow.learn", "elongated": "target.covariances", "cross": "target.covariances"}
ADAANN = ("--set", "schedule.kind=adaann", "--set", "schedule.t0=1")


@pytest.mark.parametrize(("name", "key"), BUILT_IN.items())
@pytest.mark.parametrize(
    "call",
    [
        annealvi.asymptotics,
        annealvi.linear_stability,
        lambda problem: annealvi.train_flow(problem, steps=1, architecture=Architecture(layers=2, width=8)),
    ],
    ids=["limits", "stability", "flow"],
)
def test_functions_refuse_covariances(call, name, key):
    with pytest.raises(BadInput, match="isotropic components alone") as caught:
        call(annealvi.load_problem(name))
    assert caught.value.key == key
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["flow", "cross", "--steps", "1"], "RealNVP flows"),
        (["flow", "cross", "--x", "schedule.T0=10:20:2", "--y", "schedule.t0=10:20:2"], "RealNVP flows"),
        (["compare", "theirs.toml", "cross"], "equations are compared for"),
        (["collapse", "full-covariance", "--method", "law"], "the law over dimensions is made for"),
        (["fixed-points", "cross"], "fixed points are found for one learned variance"),
        (["derive", "full-covariance", *ADAANN], "covers isotropic components alone"),
        (["integrate", "full-covariance", "--n", "2", *ADAANN], "covers isotropic components alone"),
        (["derive", "elongated", "--large-dimension"], "no limit of many dimensions"),
        (["derive", "cross", "--set", "target.reference_scale=2"], "covariances are covered for"),
        (
            ["derive", "cross", *("--set", "objective.kind=mixed"), *("--set", "objective.weight=0.5")],
            "covariances are covered for",
        ),
    ],
)
def test_commands_refuse_covariances(arguments, words, capsys):
    assert main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.endswith("…")]
    assert len(lines) == 1
    assert words in lines[0]
