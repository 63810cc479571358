"""Covariances in problem files: what is read, changed, written and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from annealvi.cli.program import main
from annealvi.sweeps.keys import require_independent, vary
from derive.problem.problem_file import load_problem, problem_as_dict, problem_from_dict, problem_to_toml
from derive.problem.specification import BadInput, Flow, Problem, Proposal, Space, Target

pytestmark = pytest.mark.quick

TWO = (((1.0, 0.3), (0.3, 0.5)), ((2.0, 0.0), (0.0, 1.0)))
ONE = (((1.5,),), ((0.5,),))
BUILT_IN = ("full-covariance", "elongated", "cross")


@pytest.mark.parametrize("name", BUILT_IN)
def test_problems_survive_their_own_toml(name: str, tmp_path: Path) -> None:
    problem = load_problem(name)
    path = tmp_path / "same.toml"
    path.write_text(problem_to_toml(problem))
    assert load_problem(path) == problem == problem_from_dict(problem_as_dict(problem))


@pytest.mark.parametrize(
    ("changes", "modes", "size"),
    [
        ({"target.means": [[3], [-3]], "target.covariances": TWO}, ((3, 0), (-3, 0)), 2),
        ({"target.means": [[3, 0, 0], [-3]], "target.covariances": TWO}, ((3, 0), (-3, 0)), 2),
        ({"target.means": [[0], [0]], "target.covariances": TWO}, ((0, 0), (0, 0)), 2),
        ({"proposal.covariances": TWO}, ((3, 0), (-3, 0)), 2),
        ({"proposal.covariances": ONE}, ((3,), (-3,)), 1),
        ({"flow.learn": ["covariances"]}, ((3,), (-3,)), 1),
        ({"target.covariances": ONE, "proposal.covariances": ONE}, ((3,), (-3,)), 1),
    ],
)
def test_means_are_padded_to_the_size_of_the_covariances(changes: dict, modes: tuple, size: int) -> None:
    problem = load_problem("bimodal", [f"{key}={_toml(value)}" for key, value in changes.items()])
    assert problem.modes == modes
    assert problem.coordinates == size
    assert problem.has_covariances
    for matrices, scales in (
        (problem.mode_covariances, problem.target.scales),
        (problem.component_covariances, problem.proposal.scales),
    ):
        assert all(len(matrix) == len(matrix[0]) == size for matrix in matrices)
        assert len(matrices) == len(scales)


def test_absent_covariances_are_the_squares_of_the_scales() -> None:
    problem = Problem(target=Target(scales=(0.5, 2.0)), proposal=Proposal(covariances=TWO))
    assert problem.mode_covariances == (((0.25, 0), (0, 0.25)), ((4, 0), (0, 4)))


def test_rounding_of_symmetric_entries_is_removed() -> None:
    matrix = ((1.0, 0.3 + 1e-13), (0.3, 0.5))
    (found, _) = Target(covariances=(matrix, TWO[1])).covariances
    assert found[0][1] == found[1][0]


REFUSED = [
    (["target.covariances=1"], ["target.covariances", "1 is not a list", "one matrix per component"]),
    (["target.covariances=[1.0, 2.0]"], ["target.covariances[0]", "not a list"]),
    (["target.covariances=[[[1.0]]]"], ["target.covariances", "1 entries", "as many as target.weights, 2"]),
    (["proposal.covariances=[[[1.0]]]"], ["proposal.covariances", "1 entries", "as many as proposal.weights, 2"]),
    (["target.covariances=[[], []]"], ["target.covariances[0]", "an empty matrix"]),
    (["target.covariances=[[[1, 0], [0]], [[1]]]"], ["target.covariances[0][1]", "1 entries", "2 rows", "2 entries"]),
    (["target.covariances=[[[1]], [[1, 0], [0, 1]]]"], ["target.covariances[1]", "2 x 2", "give 1 x 1"]),
    (["target.covariances=[[[nan]], [[1]]]"], ["target.covariances[0][0][0]", "nan is not finite"]),
    (["target.covariances=[[['a']], [[1]]]"], ["target.covariances[0][0][0]", "'a' is not a number"]),
    (
        ["target.covariances=[[[1, 2], [2, 1]], [[1, 0], [0, 1]]]"],
        ["target.covariances[0]", "smallest eigenvalue is -1.0", "positive eigenvalues"],
    ),
    (["target.covariances=[[[1]], [[0]]]"], ["target.covariances[1]", "smallest eigenvalue is 0.0"]),
    (
        ["target.covariances=[[[1e-13, 0], [0, 1]], [[1, 0], [0, 1]]]"],
        ["target.covariances[0]", "nearly singular", "from 1.0e-13 to 1.0", "within a factor of 1e+12"],
    ),
    (
        ["target.covariances=[[[1, 0.5], [0.4, 1]], [[1, 0], [0, 1]]]"],
        ["target.covariances[0]", "not symmetric", "[0][1] is 0.5", "[1][0] is 0.4"],
    ),
    (
        ["target.means=[[1, 2], [2, 1]]", "target.covariances=[[[1]], [[1]]]"],
        ["target.covariances[0]", "1 x 1", "target.means use 2", "give 2 x 2"],
    ),
    (
        ["target.covariances=[[[1, 0], [0, 2]], [[1, 0], [0, 1]]]", "proposal.covariances=[[[1]], [[1]]]"],
        ["proposal.covariances[0]", "1 x 1", "the target has 2 coordinates", "give 2 x 2"],
    ),
    (
        ["target.means=[[1, 2], [2, 1]]", "proposal.covariances=[[[1]], [[1]]]"],
        ["proposal.covariances[0]", "1 x 1", "the target has 2 coordinates"],
    ),
    (
        ["proposal.covariances=[[[1, 0], [0, 2]], [[1, 0], [0, 1]]]", "space.dimension=1"],
        ["space.dimension", "1 is smaller than the 2 coordinates", "covariances", "at least 2"],
    ),
    (
        ["target.means=[[1], [1]]", "target.covariances=[[[2]], [[2]]]"],
        ["target.means[1]", "the same mean, scale and covariance", "merge"],
    ),
    (["flow.metric=bures-wasserstein"], ["flow.metric", "no covariance is learned", "flow.learn"]),
    (["flow.metric=euclid", 'flow.learn=["covariances"]'], ["flow.metric", "log, bures-wasserstein"]),
    (["flow.metric=fisher"], ["flow.metric", "log, bures-wasserstein"]),
    (['flow.learn=["covariance"]'], ["flow.learn[0]", "covariances"]),
    (["target.cov=[[1]]"], ["target.cov", "covariances = "]),
    (
        ["target.covariances=[[[2]], [[1]]]", 'flow.learn=["means", "scales"]'],
        ["flow.learn", "outside the 1 coordinates", 'add "covariances"', "proposal.covariances"],
    ),
    (
        ['flow.learn=["scales", "covariances"]', "space.dimension=1"],
        ["flow.learn", "space.dimension = 1 leaves none", "larger space.dimension"],
    ),
    (["target.covariances[0][0][0]=2"], ["target.covariances[0][0][0]", "no such entry", "is None"]),
    (["target.means[0][7]=2"], ["target.means[0][7]", "no such entry"]),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_mistakes_are_one_line_from_the_command_line_too(
    changes: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput) as caught:
        load_problem("bimodal", changes)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert main(["derive", "bimodal", *(word for change in changes for word in ("--set", change))]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert all(word in err for word in words)
    assert "--set" in err


def test_changes_of_single_entries() -> None:
    changed = load_problem("elongated", ["target.covariances[0][0][0]=2", "target.covariances[1][0][1]=0.25"])
    own = load_problem("elongated").target.covariances
    assert changed.target.covariances[0] == ((2.0, own[0][0][1]), own[0][1])
    assert changed.target.covariances[1] == ((own[1][0][0], 0.25), (0.25, own[1][1][1]))
    both = load_problem("bimodal", ["target.means[1][0]=-2", "target.means=[[1], [5]]"])
    assert both.target.means == ((1.0,), (-2.0,))


def test_an_entry_off_the_diagonal_varies_with_its_mirror_image() -> None:
    problem = load_problem("elongated")
    for row, column in ((0, 1), (1, 0)):
        found = vary(problem, {f"target.covariances[1][{row}][{column}]": -0.5}).target.covariances[1]
        assert found[0][1] == found[1][0] == -0.5
    with pytest.raises(BadInput, match="not positive definite"):
        vary(problem, {"target.covariances[0][0][1]": 3.0})
    with pytest.raises(BadInput, match="no such entry"):
        vary(problem, {"target.covariances[0][0][2]": 0.0})
    keys = ["target.covariances[0][0][1]", "target.covariances[0][0][0]", "target.covariances[1][1][0]"]
    require_independent(keys)
    with pytest.raises(BadInput, match="both set"):
        require_independent([*keys, "target.covariances[0][1][0]"])


def test_the_metric_is_written_where_it_counts() -> None:
    learned = Problem(flow=Flow("sphere", ("covariances",), "bures-wasserstein"), space=Space(3))
    assert 'metric = "bures-wasserstein"' in problem_to_toml(learned)
    assert "metric" not in problem_to_toml(Problem(target=Target(covariances=ONE)))


def _toml(value: object) -> str:
    return str([_listed(item) for item in value]) if isinstance(value, list | tuple) else str(value)


def _listed(value: object) -> object:
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value
