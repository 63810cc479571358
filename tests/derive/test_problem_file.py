import dataclasses
import json
import math
import pickle
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derive.problem.problem_file import (
    BUILT_IN,
    KEYS,
    load_problem,
    problem_as_dict,
    problem_from_dict,
    problem_to_toml,
    with_changes,
)
from derive.problem.scope import OUTSIDE, outside
from derive.problem.specification import (
    ADAPTIVE_KINDS,
    LEARNABLE,
    SCHEDULE_KINDS,
    BadInput,
    Flow,
    Objective,
    Problem,
    Proposal,
    ScheduleSpec,
    Space,
    Target,
)

INTERFACE_DEFAULTS = {
    "name": "bimodal",
    "target": {"weights": [0.8, 0.2], "means": [[3.0], [-3.0]], "scales": [1.0, 1.0]},
    "proposal": {"weights": [0.5, 0.5], "scales": [1.0, 1.0], "radius": 3.0},
    "flow": {"manifold": "sphere", "learn": ["means"]},
    "schedule": {"kind": "exponential", "T0": 300.0, "t0": 1152.0},
    "space": {"dimension": 128},
    "init": {"law": "uniform-sphere"},
}


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "my.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: str | Path, *overrides: str) -> str:
    start = time.perf_counter()
    with pytest.raises(BadInput) as caught:
        load_problem(path, overrides)
    assert time.perf_counter() - start < 2
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 500 + len(str(path))
    return message


@pytest.mark.quick
def test_defaults_are_the_published_bimodal_case(tmp_path: Path) -> None:
    assert problem_as_dict(Problem()) == INTERFACE_DEFAULTS
    assert load_problem("bimodal") == problem_from_dict(INTERFACE_DEFAULTS) == problem_from_dict({}) == Problem()
    assert load_problem(write(tmp_path, "")) == dataclasses.replace(Problem(), name="my")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("mine.toml", "mine"),
        ("three.modes.toml", "three.modes"),
        ("no-ending", "no-ending"),
        (".hidden.toml", "hidden"),
        ("...toml", "unnamed"),
        ("a\nb\x1b[31m\\c.toml", "a-b-[31m-c"),
        ("\udcff.toml", "-"),
        ("β case.toml", "β case"),
        ("x" * 200 + ".toml", "x" * 80),
        ("bimodal.toml", "bimodal"),
    ],
    ids=ascii,
)
def test_a_file_without_a_name_is_called_by_its_own(file: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.write_text("[target]\nweights = [0.5, 0.5]\n")
    assert load_problem(path).name == name
    assert load_problem(path, ["schedule.T0=9"]).name == name
    assert load_problem(path, ["name=other"]).name == "other"
    path.write_text('name = "given"')
    assert load_problem(path).name == "given"


def test_a_problem_without_a_name_is_bimodal_only_where_it_is() -> None:
    assert Problem(schedule=ScheduleSpec("linear"), space=Space(7)).name == "bimodal"
    assert Problem(target=Target((0.5, 0.5))).name == Problem(flow=Flow("euclidean")).name == "unnamed"
    assert problem_from_dict({"proposal": {"radius": 2.0}}).name == "unnamed"
    assert load_problem("bimodal", ["target.weights=[0.5, 0.5]"]).name == "bimodal"


def test_the_interface_page_example_is_the_default(tmp_path: Path) -> None:
    text = """
name = "bimodal"
[target]                       # a comment
weights = [0.8, 0.2]
means   = [[3.0], [-3.0]]
scales  = [1.0, 1.0]
[proposal]
weights = [0.5, 0.5]
scales  = [1, 1]
radius  = 3
[schedule]
kind = "exponential"
T0   = 300
"""
    assert load_problem(write(tmp_path, text)) == Problem()
    assert load_problem(write(tmp_path, b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())) == Problem()


def test_problems_are_hashable_immutable_and_picklable() -> None:
    problem = Problem()
    assert len({problem, Problem()}) == 1
    assert pickle.loads(pickle.dumps(problem)) == problem
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.name = "other"  # type: ignore[misc]
    mistake = BadInput("a", "b", "c", "d")
    assert str(pickle.loads(pickle.dumps(mistake))) == str(mistake) == "d: a: b; c"


def test_arrays_and_lists_become_tuples_of_floats() -> None:
    target = Target(weights=np.array([0.25, 0.75]), means=np.array([[1, 2], [3, 4]]), scales=[1, 2])  # type: ignore[arg-type]
    assert target == Target((0.25, 0.75), ((1.0, 2.0), (3.0, 4.0)), (1.0, 2.0))
    assert all(type(x) is float for x in (*target.weights, *target.means[1], *target.scales))
    assert type(Space(np.int64(7)).dimension) is int  # type: ignore[arg-type]


@pytest.mark.parametrize("section", ["target", "proposal"])
@pytest.mark.parametrize("given_weights", [(0.5, 0.6), (8, 2), (1 / 3,) * 2, (0.1,) * 11, (1e-90, 1e9, 1e9)])
def test_weights_that_do_not_sum_to_one_are_answered_by_weights_that_do(
    section: str, given_weights: tuple[float, ...]
) -> None:
    means = [[float(k)] for k in range(len(given_weights))]
    rest: dict[str, object] = {"scales": [1.0] * len(given_weights)} | ({"means": means} if section == "target" else {})
    refused = answer_to({section: {"weights": given_weights, **rest}})
    assert isinstance(refused, BadInput)
    pasted = json.loads(refused.remedy[refused.remedy.index("[") :])
    assert pasted == pytest.approx([w / sum(given_weights) for w in given_weights], rel=1e-15)
    assert isinstance(problem_from_dict({section: {"weights": pasted, **rest}}), Problem)


def test_many_weights_are_answered_by_their_divisor() -> None:
    weights = tuple(0.1 * (k + 1) for k in range(60))
    answer = answer_to({"proposal": {"weights": weights, "scales": [1.0] * 60}})
    assert isinstance(answer, BadInput)
    divisor = float(answer.remedy.rpartition(" ")[2])
    Proposal(tuple(w / divisor for w in weights), (1.0,) * 60)


def test_padding_of_the_means_is_dropped() -> None:
    assert Target(means=((3, 0, 0), (-3, 0, 0))) == Target()
    assert Target((0.5, 0.5), ((0, 3, 0), (1, 0, 0))).coordinates == 2
    assert Target((1.0,), ((0, 0),), (1.0,)).means == ((0.0,),)
    assert Target(means=((3,), (1, 2))) == Target(means=((3, 0), (1, 2)))
    assert Target(means=((3, 0, 0, 0), (-3,))) == Target()
    assert Problem(target=Target(means=((3, 0, 0), (-3, 0, 0))), space=Space(1)).space.dimension == 1


def test_what_is_learned_is_kept_in_one_order() -> None:
    assert Flow(learn=("scales", "means")) == Flow(learn=("means", "scales"))


def test_the_name_of_a_built_in_comes_before_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bimodal").write_text('name = "mine"')
    assert load_problem("bimodal").name == "bimodal"
    assert load_problem("./bimodal").name == "mine"


def test_overrides_are_toml_or_bare_words(tmp_path: Path) -> None:
    path = write(tmp_path, "[schedule]\nT0 = 10")
    overrides = [
        "schedule.kind=beta-exponential",
        " schedule.t0 = 2e3 ",
        "target.means=[[1, 0], [0, 1]]",
        "name=two-words",
    ]
    problem = load_problem(path, [*overrides, "schedule.t0=5", 'flow.manifold="euclidean"'])
    assert problem.schedule == ScheduleSpec("beta-exponential", 10, 5)
    assert problem.target.means == ((1.0, 0.0), (0.0, 1.0))
    assert problem.flow.manifold == "euclidean"
    assert problem.name == "two-words"


def test_a_new_kind_sets_the_points_of_a_table_aside(tmp_path: Path) -> None:
    path = write(tmp_path, '[schedule]\nkind = "table"\npoints = [[0, 3], [1, 1]]')
    assert load_problem(path).schedule.points == ((0.0, 3.0), (1.0, 1.0))
    assert load_problem(path, ["schedule.kind=linear"]).schedule == ScheduleSpec("linear")
    changed = load_problem(path, ['schedule.expression="max(1, T0 - t/t0)"', "schedule.kind=expression"])
    assert changed.schedule.points == ()
    assert "no use for it" in refusal("bimodal", "schedule.points=[[0, 3], [1, 1]]")


def test_an_override_leaves_the_built_in_untouched() -> None:
    load_problem("bimodal", ["target.weights=[0.5, 0.5]"])
    assert BUILT_IN["bimodal"] == Problem()


BAD_FILES = [
    ("[target]\nweights = [0.5, 0.4]", ["target.weights", "0.9", "sum to one within 1e-09"]),
    ("[target]\nweights = [1.2, -0.2]", ["target.weights[1]", "-0.2", "above zero"]),
    ("[target]\nweights = [1.0, 0.0]", ["target.weights[1]", "not positive"]),
    ("[target]\nweights = [nan, 1.0]", ["target.weights[0]", "nan", "magnitude"]),
    ("[target]\nweights = [true, false]", ["target.weights[0]", "True is not a number"]),
    ("[target]\nweights = '0.5'", ["target.weights", "not a list"]),
    ("[target]\nweights = {a = 1}", ["target.weights", "not a list"]),
    ("[target]\nweights = []", ["target.weights", "without components"]),
    (f"[target]\nweights = {[1 / 65] * 65}", ["target.weights", "65 entries", "at most 64"]),
    (f"[proposal]\nweights = {[1 / 65] * 65}", ["proposal.weights", "65 entries", "at most 64"]),
    ("[target]\nweights = [1.0]", ["target.means", "2 entries", "as many as target.weights, 1"]),
    ("[target]\nmeans = [3.0, -3.0]", ["target.means[0]", "one list of coordinates per component"]),
    ("[target]\nmeans = [[3.0], []]", ["target.means[1]", "without coordinates"]),
    ("[target]\nmeans = [[], []]", ["target.means[0]", "without coordinates"]),
    ("[target]\nmeans = [[inf], [1.0]]", ["target.means[0][0]", "inf is not finite"]),
    ("[target]\nmeans = [[1e200], [1.0]]", ["target.means[0][0]", "too large"]),
    ("[target]\nmeans = [[3.0], [3.0]]", ["target.means[1]", "same mean and scale", "merge them"]),
    ("[target]\nscales = [1.0]", ["target.scales", "1 entries", "2"]),
    ("[target]\nscales = [1.0, 0.0]", ["target.scales[1]", "not positive"]),
    ("[proposal]\nscales = [1.0]", ["proposal.scales", "as many as proposal.weights, 2"]),
    ("[proposal]\nradius = 0", ["proposal.radius", "not positive"]),
    ("[proposal]\nradius = 1e-200", ["proposal.radius", "too small"]),
    ("[flow]\nmanifold = 'torus'", ["flow.manifold", "'torus'", "sphere, euclidean"]),
    ("[flow]\nlearn = 'means'", ["flow.learn", 'such as ["means"]']),
    ("[flow]\nlearn = []", ["flow.learn", "at least one of means, weights, scales"]),
    ("[flow]\nlearn = ['mean']", ["flow.learn[0]", "means, weights, scales"]),
    ("[flow]\nlearn = ['means', 'means']", ["flow.learn", "twice"]),
    ("[schedule]\nT0 = 0.5", ["schedule.T0", "0.5 is below 1"]),
    ("[schedule]\nT0 = inf", ["schedule.T0", "no meaning for inf"]),
    ("[schedule]\nT0 = 0x" + "f" * 5000, ["schedule.T0", "thousands of digits"]),
    ("[schedule]\nT9 = 0x" + "f" * 5000, ["schedule.T9", "unknown key"]),
    ("[schedule]\nT0 = " + "9" * 5000, ["not TOML", "thousands of digits"]),
    ("[schedule]\nt0 = 0.0", ["schedule.t0", "not positive"]),
    ("[schedule]\nkind = 'linaer'", ["schedule.kind", "choose one of constant, exponential"]),
    ("[schedule]\nkind = ['linear']", ["schedule.kind", "choose one of"]),
    ("[schedule]\nkind = 'table'", ["schedule.points", "needs it"]),
    ("[schedule]\nexpression = '1'", ["schedule.expression", "no use for it"]),
    ("[schedule]\nkind = 'expression'\nexpression = 3", ["schedule.expression", "in quotes"]),
    ("[schedule]\nkind = 'expression'\nexpression = '1 + x'", ["schedule.expression", "column 5"]),
    ("[schedule]\nkind = 'expression'\nexpression = '2'", ["schedule.expression", "let it come to 1"]),
    ("[space]\ndimension = 128.0", ["space.dimension", "without a point"]),
    ("[space]\ndimension = true", ["space.dimension", "not an integer"]),
    ("[space]\ndimension = 0", ["space.dimension", "below 1"]),
    ("[space]\ndimension = 1_000_000_001", ["space.dimension", "at most 10^9"]),
    ("[space]\ndimension = 1\n[target]\nmeans = [[1, 2], [2, 1]]", ["space.dimension", "at least 2"]),
    ("[init]\nlaw = 1979-05-27", ["init.law", "uniform-sphere"]),
    ("[target]\nreference_scale = 0.0", ["target.reference_scale", "not positive"]),
    ("[target]\nreference_scale = inf", ["target.reference_scale", "inf is not finite"]),
    ("[target]\nreference_scale = [2.0]", ["target.reference_scale", "not a number"]),
    ("[target]\nreference_scale = true", ["target.reference_scale", "True is not a number"]),
    ("[target]\nreference_scales = 2.0", ["target.reference_scales", "did you mean reference_scale?"]),
    ("[objective]\nkind = 3", ["objective.kind", "choose one of reverse-kl, forward-kl, mixed"]),
    ("[objective]\nkind = 'mixed'", ["objective.weight", "needs it", "objective.weight = 0.5"]),
    ("[objective]\nkind = 'mixed'\nweight = 0", ["objective.weight", "not positive"]),
    ("[objective]\nkind = 'mixed'\nweight = 1.0", ["objective.weight", "1.0 is not below 1"]),
    ("[objective]\nkind = 'mixed'\nweight = nan", ["objective.weight", "nan is not finite"]),
    ("[objective]\nkind = 'mixed'\nweight = '0.5'", ["objective.weight", "not a number"]),
    ("[objective]\nweight = 0.5", ["objective.weight", "'reverse-kl' has no use for it", "mixed"]),
    ("[objective]\nkind = 'forward-kl'\nweight = 0.5", ["objective.weight", "'forward-kl' has no use for it"]),
    ("[objective]\nkind = 'forward-kl'", ["schedule.kind", "beta has no meaning", '"constant" and schedule.T0 = 1']),
    (
        "[objective]\nkind = 'forward-kl'\n[schedule]\nkind = 'constant'",
        ["schedule.T0", "beta has no meaning", "schedule.T0 = 1"],
    ),
    (
        "[objective]\nkind = 'forward-kl'\n[schedule]\nkind = 'constant'\nT0 = 1\n[target]\nreference_scale = 2",
        ["target.reference_scale", "beta has no meaning", "leave it out"],
    ),
    (
        "[objective]\nkind = 'mixed'\nweight = 0.5\n[schedule]\nkind = 'adaann'",
        ["schedule.kind", "'adaann' looks at log p* alone", "objective.kind 'mixed'", "a schedule with a formula"],
    ),
    (
        "[target]\nreference_scale = 2\n[schedule]\nkind = 'ess'",
        ["schedule.kind", "'ess' looks at log p* alone", "target.reference_scale"],
    ),
    ("objective = 'mixed'", ["objective", "write [objective]"]),
    ("name = 3", ["name", "quotes"]),
    ("name = ''", ["name", "1 to 80"]),
    ("name = '../x'", ["name", "slashes"]),
    ("name = 'a\\nb'", ["name"]),
    ('name = "a\\nb"', ["name", "printable"]),
    ("target = 3", ["target", "write [target]"]),
    ("[targt]\nweights = [1.0]", ["targt", "unknown section", "did you mean target?"]),
    ("[target]\nweight = [1.0]", ["target.weight", "unknown key", "did you mean weights?"]),
    ("weights = [1.0]", ["weights", "unknown section"]),
    ('["a\\nb"]', ["a\\nb", "unknown section"]),
    ('[target]\n"\\u001b[31m" = 1', ["unknown key"]),
    (f'"{"k" * 5000}" = 1', ["unknown section"]),
    ("[target]\nweights = [0.5, 0.5", ["not TOML", "line"]),
    ("name = \n", ["not TOML", "line 1"]),
    ("a = 1\na = 2", ["not TOML", "overwrite"]),
    ("a = " + "[" * 100_000, ["not TOML"]),
    (f"[{'a' * 5000}]\n" * 2, ["not TOML: Cannot declare", "twice (at line 2, column"]),
    ("a." * 100_000 + "a = 1", ["line 1", "points"]),
    ('"a,".' * 50_000 + "a = 1", ["line 1", "points"]),
    ("1." * 100_000 + "1 = 1", ["line 1", "points"]),
    (b"name = '\xff'", ["line 1", "UTF-8"]),
    (b"\x00" * 100, ["not TOML"]),
    ("#" * (2**20 + 1), ["larger than 1 MiB"]),
]


@pytest.mark.quick
@pytest.mark.parametrize(("content", "fragments"), BAD_FILES, ids=[ascii(content[:40]) for content, _ in BAD_FILES])
def test_every_mistake_is_one_line_with_file_key_and_remedy(
    tmp_path: Path, content: str | bytes, fragments: list[str]
) -> None:
    path = write(tmp_path, content)
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert all(fragment in message for fragment in fragments), message


OUTSIDE_THE_THEORY = [
    ('target.family = "student-t"', "target.family", "Student's t"),
    ("target.df = 3", "target.df", "Student's t"),
    ('proposal.family = "full-rank"', "proposal.family", "Gaussian mixtures"),
    ("target.covariance = [[[1.0]]]", "target.covariance", "one matrix per component"),
    ('flow.learn = ["precisions"]', "flow.learn[0]", "one matrix per component"),
    ("proposal.means = [[1.0]]", "proposal.means", "--initial"),
    ('init.law = "gaussian"', "init.law", "proposal.radius"),
    ("flow.learning_rate = 0.1", "flow.learning_rate", "no learning rate"),
    ("lr = 0.1", "lr", "no learning rate"),
    ('flow.optimizer = "adam"', "flow.optimizer", "plain gradient flow"),
    ('optimiser.name = "adam"', "optimiser", "plain gradient flow"),
    ("flow.batch_size = 3", "flow.batch_size", "to the command"),
    ("flow.layers = 8", "flow.layers", "annealvi flow --layers"),
    ('schedule.kind = "geometric-path"', "schedule.kind", 'kind = "geometric" is cooling'),
    ("prior.scale = 2.0", "prior", "no prior"),
    ("target.base = 1", "target.base", "no prior"),
    ("target.reference_mean = 1", "target.reference_mean", "target.reference_scale"),
    ('objective.kind = "hellinger"', "objective.kind", "forward KL"),
    ("objective.alpha = 0.5", "objective.alpha", "forward KL"),
    ('loss = "elbo"', "loss", "forward KL"),
    ("mcmc.steps = 10", "mcmc", "no sampler"),
    ('schedule.kind = "warm-up"', "schedule.kind", "opposite direction"),
    ('schedule.kind = "cyclical"', "schedule.kind", "rises again"),
    ('schedule.kind = "none"', "schedule.kind", 'kind = "constant" with T0 = 1'),
    ('schedule.kind = "step"', "schedule.kind", 'kind = "table"'),
    ("schedule.beta0 = 0.1", "schedule.beta0", "T0 = 1/beta"),
    ('flow.manifold = "torus"', "flow.manifold", "not covered"),
]


@pytest.mark.parametrize(("line", "key", "word"), OUTSIDE_THE_THEORY, ids=[line for line, _, _ in OUTSIDE_THE_THEORY])
def test_what_the_theory_does_not_cover_has_a_line_of_its_own(tmp_path: Path, line: str, key: str, word: str) -> None:
    path = write(tmp_path, line)
    for source, message in ((str(path), refusal(path)), ("--set", refusal("bimodal", line))):
        assert message.startswith(f"{source}: {key}")
        assert word in message
        assert "unknown" not in message


def test_every_line_on_what_is_not_covered_is_said_somewhere_and_hides_nothing_that_is() -> None:
    said = {
        outside(key.strip(), tomllib.loads(f"x = {value}")["x"])
        for key, _, value in (x[0].partition("=") for x in OUTSIDE_THE_THEORY)
    }
    said.add(outside("flow.learn[0]=precisions"))
    assert said >= {(entry.found, entry.remedy) for entry in OUTSIDE}
    for key in KEYS:
        assert outside(key) is None
    for kind in (*SCHEDULE_KINDS, *ADAPTIVE_KINDS):
        assert outside(f"schedule.kind={kind}") is None


CONSTANT = ["schedule.kind=constant", "schedule.T0=1"]


def test_objectives_and_references_are_read_written_and_set(tmp_path: Path) -> None:
    forward = load_problem("bimodal", ["objective.kind=forward-kl", *CONSTANT])
    assert forward.objective == Objective("forward-kl")
    mixed = load_problem("bimodal", ["objective.kind=mixed", "objective.weight=0.25", "target.reference_scale=2"])
    assert mixed.objective == Objective("mixed", 0.25)
    assert mixed.target.reference_scale == 2.0
    for problem, share in ((forward, 1.0), (mixed, 0.25), (Problem(), 0.0)):
        assert problem.objective.forward_share == share
        path = write(tmp_path, problem_to_toml(problem))
        assert load_problem(path) == problem_from_dict(problem_as_dict(problem)) == problem
    assert repr(mixed.target).endswith("reference_scale=2.0)")
    assert "Objective(kind='mixed', weight=0.25)" in repr(mixed)
    assert load_problem(write(tmp_path, problem_to_toml(mixed)), ["objective.weight=0.5"]).objective.weight == 0.5
    assert problem_as_dict(mixed)["objective"] == {"kind": "mixed", "weight": 0.25}


def test_a_new_objective_sets_the_weight_of_a_mixed_one_aside(tmp_path: Path) -> None:
    path = write(tmp_path, "[objective]\nkind = 'mixed'\nweight = 0.25")
    assert load_problem(path, ["objective.kind=reverse-kl"]).objective == Objective()
    assert with_changes(load_problem(path), {"objective.kind": "reverse-kl"}).objective == Objective()
    assert with_changes(load_problem(path), {"objective.weight": 0.75}).objective == Objective("mixed", 0.75)
    for key in ("objective.weight[0]", "target.reference_scale[1]"):
        with pytest.raises(BadInput, match="no such entry"):
            with_changes(Problem(), {key: 0.5})


def test_the_objective_and_the_reference_leave_no_trace_where_they_are_absent() -> None:
    """Keys of results and caches are made of these texts."""
    stated = problem_from_dict({"objective": {"kind": "reverse-kl"}})
    assert stated == Problem()
    for text in (problem_to_toml(stated), repr(stated), json.dumps(problem_as_dict(stated))):
        assert "objective" not in text
        assert "reference" not in text
    assert Problem(objective=Objective("mixed", 0.5)).name == "unnamed"
    assert Problem(objective=Objective("mixed", 0.5)) != Problem(name="unnamed")


BAD_OVERRIDES = [
    ("objective.weight=0.5", ["objective.weight", "no use for it"]),
    ("objective.kind=mixed", ["objective.weight", "needs it"]),
    ("objective.kind=forward-kl", ["schedule.kind", "beta has no meaning"]),
    ("objective.kind=jeffreys", ["objective.kind", "no other divergence"]),
    ("objective=forward-kl", ["KEY one of kind, weight"]),
    ("target.reference_scale=-1", ["target.reference_scale", "not positive"]),
    ("schedul.T0=5", ["schedul", "did you mean schedule?"]),
    ("schedule.t1=5", ["schedule.t1", "unknown key"]),
    ("target.weights[0]=3", ["target.weights[1]", "not positive"]),
    ("target.weight[0]=3", ["target.weight[0]", "did you mean weights?"]),
    ("schedule", ["section.key=value"]),
    ("=5", ["section.key=value"]),
    ("", ["section.key=value"]),
    ("schedule=5", ["KEY one of kind, T0, t0"]),
    ("schedule.T0=", ["schedule.T0", "not TOML"]),
    ("schedule.expression=1+t", ["schedule.expression", "needs quotes"]),
    ("schedule.T0=5\nt0 = 3", ["schedule.T0", "many lines"]),
    ("schedule.T0=5, t0=3", ["schedule.T0", "not TOML"]),
    ("schedule.T0=abc", ["schedule.T0", "'abc' is not a number"]),
    ("schedule.T0=true", ["schedule.T0", "True is not a number"]),
    ("schedule.T0=nan", ["schedule.T0", "nan is not finite"]),
    ("target.weights=[0.5, 0.6]", ["target.weights", "sum to 1.1"]),
    ("name=\x1b", ["not TOML"]),
]


@pytest.mark.quick
@pytest.mark.parametrize(("override", "fragments"), BAD_OVERRIDES, ids=[ascii(text) for text, _ in BAD_OVERRIDES])
def test_every_bad_override_is_one_line_that_names_it(override: str, fragments: list[str]) -> None:
    message = refusal("bimodal", override)
    assert message.startswith("--set")
    assert all(fragment in message for fragment in fragments), message


def test_a_mistake_in_the_whole_problem_names_it_once() -> None:
    mistake = BadInput("problem", "its averages cannot be tabulated", "bring the modes closer")
    assert str(mistake) == "problem: its averages cannot be tabulated; bring the modes closer"
    assert str(mistake.at("mine.toml")) == "mine.toml: its averages cannot be tabulated; bring the modes closer"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "directory" in refusal(tmp_path)
    assert "did you mean bimodal?" in refusal("bimodel")
    assert "no such file" in refusal(tmp_path / "missing.toml")
    assert "no such file" in refusal("\udcff")
    assert "cannot be read" in refusal("a\0b")
    assert "cannot be read" in refusal(tmp_path / ("x" * 5000))
    assert "empty name" in refusal("")


def answer_to(document: dict[str, object]) -> Problem | BadInput:
    try:
        return problem_from_dict(document, "x.toml")
    except BadInput as mistake:
        return mistake


weights = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5).map(lambda ws: tuple(w / math.fsum(ws) for w in ws))
coordinates = st.floats(-1e6, 1e6)
scales = st.floats(1e-6, 1e6)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    target_weights, proposal_weights = draw(weights), draw(weights)
    count, rank = len(target_weights), draw(st.integers(1, 3))
    means = draw(st.lists(st.tuples(*[coordinates] * rank), min_size=count, max_size=count, unique=True))
    name = draw(
        st.text(st.characters(exclude_characters="/\\"), min_size=1, max_size=20).filter(
            lambda s: s.isprintable() and s[0] != "."
        )
    )
    reference = draw(st.none() | scales)
    return Problem(
        name=name,
        target=Target(target_weights, tuple(means), draw(st.tuples(*[scales] * count)), reference),
        proposal=Proposal(proposal_weights, draw(st.tuples(*[scales] * len(proposal_weights))), draw(scales)),
        flow=Flow(
            draw(st.sampled_from(["sphere", "euclidean"])), tuple(draw(st.sets(st.sampled_from(LEARNABLE), min_size=1)))
        ),
        schedule=draw(
            st.one_of(
                st.builds(ScheduleSpec, st.sampled_from(["linear", "hold"]), st.floats(1, 1e9), st.floats(1e-9, 1e9)),
                st.just(ScheduleSpec("table", points=((0, 5), (0.1, 1)))),
                st.just(ScheduleSpec("expression", expression="1 + 299*\n\texp(-t/100)")),
            )
        ),
        space=Space(draw(st.integers(3, 10**9))),
        objective=draw(
            st.just(Objective()) | st.builds(Objective, st.just("mixed"), st.floats(1e-9, 1, exclude_max=True))
        ),
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(problems())
def test_toml_and_dictionary_give_the_same_problem_back(problem: Problem) -> None:
    assert problem_from_dict(tomllib.loads(problem_to_toml(problem))) == problem
    assert problem_from_dict(json.loads(json.dumps(problem_as_dict(problem)))) == problem


@pytest.mark.quick
def test_a_written_file_loads_as_the_same_problem(tmp_path: Path) -> None:
    problem = Problem('a "quoted" β', schedule=ScheduleSpec("table", points=((0, 5), (10, 1))))
    assert load_problem(write(tmp_path, problem_to_toml(problem))) == problem


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), st.lists, max_leaves=8),
    st.data(),
)
def test_any_value_of_any_key_is_taken_or_plainly_refused(value: object, data: st.DataObject) -> None:
    section, _, key = data.draw(st.sampled_from(KEYS)).partition(".")
    answer = answer_to({section: {key: value}})
    assert isinstance(answer, Problem) or (str(answer).startswith("x.toml: ") and str(answer).isprintable())
