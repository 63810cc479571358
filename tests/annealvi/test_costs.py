"""The cost of a run, which the package tells and may refuse before the run begins.

Further tests are about tolerances, initial states and the functions that give the equations.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from itertools import pairwise

import numpy as np
import pytest
import sympy as sp

import annealvi
from annealvi.cli.program import main
from annealvi.collapse import ensemble
from annealvi.collapse.formula import FASTER as FASTER_FORMULA
from annealvi.runs import costs, paths, trajectories
from annealvi.runs.costs import Cost, cost_of_integration, duration, require_affordable
from annealvi.runs.paths import Paths
from annealvi.show.path_figures import draw_paths
from annealvi.sweeps.running import FASTER as FASTER_SWEEP
from kernels.integrate.errors import StoppedError
from kernels.integrate.kernel import Kernel


def refused(capsys, arguments, *words):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def sets(*changes):
    return [word for change in changes for word in ("--set", change)]


@pytest.fixture(scope="module")
def weights():
    return annealvi.open_session(annealvi.load_problem("learned-weights"))


ROOM = 1.5
"""The largest factor between a work and its estimate, in either direction."""


PROBLEMS = sorted(set(annealvi.BUILT_IN) - {"slips-8", "slips-16", "slips-32", "slips-64", "cross"})
"""In `cross` hot components stretch far beyond a sample that is cooled at once; its work is 7 times the estimate."""


@pytest.mark.parametrize(
    ("name", "stabilised"), [*((name, False) for name in PROBLEMS), ("learned-weights", True), ("simplex", True)]
)
def test_the_work_is_estimated_from_short_samples_of_the_path(name, stabilised, monkeypatch):
    """The estimated work of a path agrees with the counted work.

    For the estimate at most 64 steps are followed from the start, and the rest of the path is sampled. Then the whole
    path is integrated in pieces and its work counted. No clock decides: a counter stands in its place. SLIPS has the
    same equations in all its dimensions, so only its largest dimension is tested. The first steps alone would give a
    tenth of the work, because the flow becomes stiff as the temperature falls.
    """
    session = annealvi.open_session(annealvi.load_problem(name))
    kernel = session.compile("cpu", 1e-6, stabilised=stabilised)
    here, times = session.random_states(2, 0), np.append(0.0, session.end_time() * np.geomspace(1e-3, 1, 10))
    monkeypatch.setattr(costs, "MOST_PILOT_STEPS", 64)
    monkeypatch.setattr(costs, "LONGEST_PILOT", 1e6)
    clock = itertools.count()
    monkeypatch.setattr(costs.time, "perf_counter", lambda: 1e-6 * next(clock))
    pace = costs.pace_of_integration(kernel, here[:1], times[[0, -1]], 1e-6, side_by_side=1)
    steps = nodes = 0.0
    state = here[1:]  # a trajectory that the estimate has not followed
    for piece in pairwise(times):
        run = kernel.integrate(state, np.array(piece), rtol=1e-6, atol=1e-8)
        steps += run.steps[0]
        nodes += costs.STAGES * run.steps[0] * kernel.nodes(run.y[0], run.beta).mean()
        state = run.y[:, -1]
    assert 1 / ROOM < pace.steps / steps < ROOM
    # A sample is cooled at once and may end at other modes, where its averages need other numbers of nodes.
    if name != "learned-scales":
        assert (nodes == pace.nodes == 0) or 1 / ROOM < pace.nodes / nodes < ROOM


def test_the_seconds_are_estimated_from_those_of_the_sample(weights, monkeypatch):
    """Estimate and run are both measured in CPU seconds of this process, which other work on the machine hardly
    changes."""
    kernel = weights.compile("cpu", 1e-10)
    states, times = weights.random_states(12, 0), np.linspace(0, 10_000, 11)
    monkeypatch.setattr(costs, "PILOT_SECONDS", 0.05)
    monkeypatch.setattr(costs.time, "perf_counter", time.process_time)
    cost = cost_of_integration(kernel, states, times, 1e-9, side_by_side=1)
    begun = time.process_time()
    for state in states:
        kernel.integrate(state[None], times, rtol=1e-9, atol=1e-11)
    assert 1 / ROOM < (time.process_time() - begun) / cost.seconds < ROOM
    assert "12 trajectories" in str(cost)
    assert "nodes per rate" in str(cost)


def test_as_many_trajectories_are_timed_together_as_will_run_together(weights, monkeypatch):
    """The pilot times as many trajectories at once as the run will integrate at once.

    Threads that share a core slow one another down: a single trajectory would take half the time that it takes in the
    run.
    """
    kernel, followed = weights.compile("cpu", 1e-10), []
    follow = costs._follow
    monkeypatch.setattr(
        costs, "_follow", lambda kernel, crew, *rest: followed.append(len(crew)) or follow(kernel, crew, *rest)
    )
    cost_of_integration(kernel, weights.random_states(1, 0), np.array([0.0, 100.0]), 1e-6, side_by_side=3, count=300)
    assert set(followed) == {3}


def test_a_slow_rate_is_not_followed(weights, monkeypatch):
    """Where a rate takes a second, the pilot takes no step, and the cost is the least that the run can have.

    A single step would take longer than a pilot may.
    """
    kernel, states, times = weights.compile("cpu", 1e-6), weights.random_states(4, 0), np.linspace(0, 1000, 11)
    monkeypatch.setattr(costs, "_follow", lambda *_: pytest.fail("a step is taken"))
    monkeypatch.setattr(Kernel, "seconds_per_rate", lambda *_: 1.0)
    cost = cost_of_integration(kernel, states, times, 1e-9, side_by_side=2)
    assert cost.seconds == pytest.approx(2 * len(times) * 12 * 1.0)
    assert str(cost).startswith("at least 264 s: ")


@pytest.mark.parametrize(("taken", "expected"), [(3, 11), (5, 5 + 900 / 50)])
def test_a_pilot_that_is_stopped_counts_the_steps_that_are_left(taken, expected, weights, monkeypatch):
    """The steps that are left cost what the nodes of the state at the stop cost, here twice those of the start.

    After only a few steps, which are too short to extrapolate from, the outputs alone give the number of steps.
    """
    kernel, states, times = (
        weights.compile("cpu", 1e-6, "quadrature"),
        weights.random_states(4, 0),
        np.linspace(0, 1000, 11),
    )

    def stopped(*_):
        raise StoppedError(taken, 100.0, 50.0, states[1])

    monkeypatch.setattr(costs, "_follow", stopped)
    monkeypatch.setattr(Kernel, "seconds_per_rate", lambda *_: 0.5)
    monkeypatch.setattr(Kernel, "nodes_asked", lambda self, state: 2 * float(self.nodes(states[:1])[0]))
    cost = cost_of_integration(kernel, states, times, 1e-9, side_by_side=2)
    assert cost.least
    assert cost.seconds == pytest.approx(2 * expected * 12 * 0.5 * 2)


def test_a_run_that_outgrows_its_limit_is_stopped(weights, monkeypatch):
    """A run is stopped although its expected cost is zero.

    The time that the pilot takes counts towards the limit.
    """
    monkeypatch.setattr(trajectories, "cost_of_integration", lambda *_: Cost(0.0, "nothing"))
    with pytest.raises(
        annealvi.BadInput,
        match=r"--max-cost: the run has taken 0\.1 s, 2 times the limit, and is stopped; ask for fewer",
    ):
        annealvi.integrate(weights, n=2000, t_end=1e5, rtol=1e-13, max_cost=0.05, device="cpu")


def test_a_cost_is_refused_above_the_limit_and_said_where_it_matters():
    heard = []
    require_affordable(Cost(4.0, "little"), 10.0, "ask for less", heard.append)
    require_affordable(Cost(40.0, "much"), None, "ask for less", heard.append)
    assert heard == ["about 40 s: much"]
    with pytest.raises(annealvi.BadInput, match="about 3 h: all, above the limit of 10 s; ask for less"):
        require_affordable(Cost(10800.0, "all"), 10.0, "ask for less", heard.append)
    assert len(heard) == 1
    assert [duration(s) for s in (0.31, 59, 7199, 7200, 3 * 86400)] == ["0.31 s", "59 s", "7199 s", "2 h", "3 days"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["integrate", "--n", "200000", "--points", "2", "--max-cost", "0.01"],
            ("--max-cost", "rates per trajectory", "fewer trajectories"),
        ),
        (["simulate", "--max-cost", "10"], ("--max-cost", "particle coordinates", "fewer particles")),
        (["simulate", "--max-cost", "0"], ("--help",)),
        (["integrate", "--tolerance", "2"], ("--help",)),
    ],
)
def test_a_run_beyond_the_limit_is_refused_before_it_begins(arguments, words, capsys):
    refused(capsys, arguments, *words)


def test_coarser_averages_give_the_same_path(weights):
    fine, coarse = (annealvi.integrate(weights, n=2, t_end=300.0, points=3, tolerance=e) for e in (1e-12, 1e-8))
    np.testing.assert_allclose(coarse.values, fine.values, rtol=0, atol=1e-6)
    assert not np.array_equal(coarse.values, fine.values)
    assert "quasi-random" not in fine.method


GOOD = {"m_1": [0.1], "m_2": [-0.1], "s": [0.0], "w_1": [0.3], "w_2": [0.7]}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"w_1": [0.4]}, "sum to 1.1"),
        ({"w_1": [0.5], "w_2": [1.5]}, "w_1 = 0.25, w_2 = 0.75"),
        ({"w_1": [-0.3], "w_2": [1.3]}, "w_1: -0.3 is not positive"),
        ({"s": [2.0]}, "Gram"),
    ],
)
def test_initial_weights_are_checked(changes, word, tmp_path, capsys):
    path = tmp_path / "initial.json"
    path.write_text(json.dumps({"states": {**GOOD, **changes}}))
    refused(capsys, ["integrate", "learned-weights", "--initial", str(path)], "initial.json", "states[0]", word)


def test_initial_weights_are_where_the_path_begins(tmp_path, capsys):
    path = tmp_path / "initial.json"
    path.write_text(json.dumps({"states": GOOD}))
    arguments = ["integrate", "learned-weights", "--initial", str(path), "--t-end", "1", "--points", "2", "--json", "-"]
    assert main(arguments) == 0
    trajectories = json.loads(capsys.readouterr().out)["trajectories"]
    assert {name: values[0][0] for name, values in trajectories.items()} == {
        name: values[0] for name, values in GOOD.items()
    }
    assert trajectories["w_1"][0][1] + trajectories["w_2"][0][1] == pytest.approx(1, abs=1e-9)


def test_initial_scales_are_checked():
    session = annealvi.open_session(annealvi.load_problem("learned-scales"))
    session.require_state(np.array([0.1, -0.1, 0.0, 1.2, 0.9]), "states[0]", "here")
    with pytest.raises(annealvi.BadInput, match=r"states\[0\].sigma_2: 0 is not positive"):
        session.require_state(np.array([0.1, -0.1, 0.0, 1.2, 0.0]), "states[0]", "here")


def test_equations_are_closed_and_rates_are_their_values():
    problem = annealvi.Problem(
        target=annealvi.Target((0.7, 0.3), ((2.0,), (-2.0,))), proposal=annealvi.Proposal(radius=(2.0, 1.5))
    )
    found = annealvi.equations(problem)
    assert [s.name for s in found] == ["m_1", "m_2", "s"]
    session = annealvi.open_session(problem)
    state = (0.3, -0.2, 0.1)
    numbers = {**session.values, **dict(zip(found, state, strict=True)), sp.Symbol("beta", positive=True): 0.4}
    wanted = [
        float(rate.xreplace({s: sp.Float(v, 20) for s, v in numbers.items()}).evalf(17)) for rate in found.values()
    ]
    rates = annealvi.rate_function(problem, "cpu")
    np.testing.assert_allclose(rates(0.4, np.array(state)), wanted, rtol=0, atol=1e-11)
    np.testing.assert_allclose(
        rates(np.array([0.4, 0.4]), np.array([state, state])), [wanted, wanted], rtol=0, atol=1e-11
    )


@pytest.mark.parametrize("count", [1, 4, 5, 14])
def test_a_figure_has_a_panel_for_each_state_and_one_for_beta(count, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    titles = []
    saved = Figure.savefig

    def remembered(figure, *arguments, **options):
        titles.extend(axes.get_title() for axes in figure.axes)
        saved(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", remembered)
    names = tuple(f"Q_{n // 9 + 1}{n % 9 + 1}" for n in range(count))
    paths = Paths(np.arange(3.0), np.ones(3), names, np.zeros((2, 3, count)), "cpu", "by hand")
    assert draw_paths(paths, tmp_path / "paths.png").stat().st_size > 0
    assert len(titles) == count + 1
    assert titles[-1] == r"$\beta$"


def test_the_limit_of_many_dimensions_is_approached():
    """The rates approach those of the limit of many dimensions as O(1/√d).

    The scales differ by 2/√d and the overlaps are fixed. A χ² variable is Gaussian to O(1/√d), so the difference falls
    to a quarter where the dimension is 16 times as large.
    """
    y, differences = np.array([[0.3, -0.2, 0.1]]), []
    for d in (256, 4096):
        scales = f"[1, {1 - 2 / np.sqrt(d)}]"
        problem = annealvi.load_problem(
            "two-scales", [f"space.dimension={d}", f"target.scales={scales}", f"proposal.scales={scales}"]
        )
        exact, limit = (
            annealvi.open_session(problem, large).compile("cpu", 1e-9).rhs_at_beta(0.5, y) for large in (False, True)
        )
        differences.append(np.abs(exact - limit).max())
    assert differences[0] / differences[1] > 3
    assert differences[1] < 2e-3


def refused_cost(monkeypatch, module, run):
    """The cost by which a run is judged, and the remedy that its refusal names.

    The cost is the number of rates of all trajectories together, which does not depend on a clock.
    """
    judged = []

    class Judged(Exception):  # noqa: N818
        pass

    def judge(cost, limit, remedy, tell=None):
        rates, count = re.search(r"(\S+) rates per trajectory, (\d+) trajectories", str(cost)).groups()
        judged.append((float(rates) * int(count), remedy))
        raise Judged

    monkeypatch.setattr(module, "require_affordable", judge)
    with pytest.raises(Judged):
        run()
    return judged[0]


def options_of(remedy):
    return set(re.findall(r"--[a-z-]+", remedy)) - {"--max-cost"}


def test_each_remedy_of_a_refused_integration_lowers_its_cost(weights, monkeypatch):
    def cost(initial=None, **options):
        given = {"n": 400, "t_end": 400.0, "points": 3, "max_cost": 1.0, **options}
        return refused_cost(monkeypatch, trajectories, lambda: annealvi.integrate(weights, initial, **given))

    whole, remedy = cost()
    remedies = {"--n": {"n": 100}, "--initial": {"initial": weights.random_states(100, 0)}, "--t-end": {"t_end": 20.0}}
    assert options_of(remedy) == set(remedies)
    for changed in remedies.values():
        assert cost(**changed)[0] < 0.7 * whole


def test_each_remedy_of_a_refused_ensemble_lowers_its_cost(weights, monkeypatch):
    shorter = annealvi.open_session(annealvi.load_problem("learned-weights", ["schedule.t0=20"]))

    def cost(session, n):
        return refused_cost(monkeypatch, ensemble, lambda: ensemble.collapse_by_ensemble(session, n=n, max_cost=1.0))

    whole, remedy = cost(weights, 400)
    assert options_of(remedy) == {"--n"}
    assert "schedule.t0" in remedy
    assert cost(weights, 100)[0] < 0.7 * whole
    assert cost(shorter, 400)[0] < 0.7 * whole


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        ("integrate", paths.FASTER_INTEGRATION),
        ("simulate", paths.FASTER_SIMULATION),
        ("collapse", paths.FASTER_ENSEMBLE),
        ("collapse", paths.FASTER_SIMULATION),
        ("collapse", FASTER_FORMULA),
        ("phase", FASTER_SWEEP),
        ("flow", FASTER_SWEEP),
        ("flow", costs.FASTER_TRAINING),
    ],
)
def test_a_remedy_names_options_that_the_command_has(command, remedy, capsys):
    assert main([command, "--help"]) == 0
    listed = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert options_of(remedy) | {"--max-cost"} <= listed


def pace(seconds, least=False):
    return costs.Pace((costs.Part(100.0, 0.0, seconds),), 2, 8.0, "cpu", least)


def test_a_problem_gets_as_many_trajectories_as_it_can_afford():
    heard = []
    chosen = [costs.affordable_number(pace(seconds), None, heard.append) for seconds in (1e-3, 0.1, 0.4, 4.2, 60.0)]
    assert chosen == [10_000, 2000, 500, 100, 100]  # two minutes are enough for 240 000, 2400, 600, 57 and 4
    assert "2000 trajectories, as many as take about 120 s" in heard[0]
    assert "P to 0.011 or better; --n" in heard[0]
    assert "100 trajectories, the fewest" in heard[-1]
    assert len(heard) == 4
    assert costs.affordable_number(pace(0.1), 30.0, None) == 500
    assert costs.affordable_number(pace(0.1, least=True), None, None) == 100


def test_the_chosen_number_is_said_and_gives_what_the_same_number_gives(monkeypatch, capsys):
    monkeypatch.setattr(costs, "PATIENCE", 1e-9)
    monkeypatch.setattr(costs, "FEWEST", 4)
    arguments = ["collapse", "learned-weights", "--set", "schedule.t0=20", "--json", "-"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert "4 trajectories" in err
    assert json.loads(out)["ode"]["runs"] == 4
    assert main([*arguments, "--n", "4"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out)


def test_the_bar_of_an_integration_has_a_total_from_the_beginning_and_moves(weights):
    heard = []
    annealvi.integrate(weights, n=40, t_end=1.0, points=2, progress=lambda *done: heard.append(done))
    assert heard[0] == (0, 40)
    assert heard[-1] == (40, 40)
    assert len(heard) > 2


def test_a_plan_follows_no_whole_trajectory_where_that_takes_long(weights, monkeypatch):
    monkeypatch.setattr(costs, "PILOT_SECONDS", 0.0)
    honest, followed = Kernel.integrate, []

    def watched(self, *given, **more):
        followed.append(more.get("most_steps", 0))
        return honest(self, *given, **more)

    monkeypatch.setattr(Kernel, "integrate", watched)
    assert ensemble.seconds_of_ensemble(lambda: (weights, None), 4000, "cpu") > 0
    assert max(followed) == max(costs.FEWEST_STEPS, costs.STABILISED_TIMES * costs.WARMED)
