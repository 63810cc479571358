"""A result is the same to the last bit for any number of threads and any number of trajectories in a chunk."""

import json
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
import xarray

import annealvi
from annealvi.cli.program import main
from annealvi.collapse.ensemble import collapse_by_ensemble
from annealvi.collapse.outcome import judging, outcomes_of_states
from annealvi.runs import adaptive, paths
from kernels.integrate.errors import IntegrationError
from kernels.integrate.kernel import Kernel

QUICK = ["--set", "schedule.T0=3", "--set", "schedule.t0=5"]
MAP = ["phase", "--x", "schedule.T0=3:30:2:log", "--y", "schedule.t0=5:50:2:log", "--n", "200"]
FEW = ["--replicas", "7", "--particles", "16", "--set", "space.dimension=16"]
COMMANDS = {
    "integrate": ["integrate", *QUICK, "--n", "150", "--t-end", "5", "--points", "3"],
    "simulate": ["simulate", *QUICK, *FEW, "--t-end", "5"],
    "adaptive particles": ["simulate", "--set", "schedule.kind=adaann", *FEW, "--t-end", "5"],
    "formula and ensemble": ["collapse", *QUICK, "--method", "formula,ode", "--n", "3000"],
    "learned weights": ["collapse", "learned-weights", *QUICK, "--method", "ode", "--n", "60"],
    "particles": ["collapse", *QUICK, *FEW, "--method", "particles", "--t-end", "5"],
    "fixed points": ["fixed-points", "--T", "1", "--starts", "12"],
    **{f"map of {result}": [*MAP, "--result", result] for result in ("p", "p_leading", "b_c", "growth", "p_ode")},
}


def numbers(result):
    """A command's JSON without paths and without the device's name, which contains the number of threads."""
    if isinstance(result, dict):
        return {key: numbers(value) for key, value in result.items() if key not in ("device", "path", "figure")}
    return result


def map_of(path):
    """The numbers of a netCDF file as bytes."""
    data = xarray.load_dataset(path, engine="h5netcdf")
    return {str(name): values.to_numpy().tobytes() for name, values in data.variables.items()}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_number_of_threads_changes_no_result(command, monkeypatch, tmp_path):
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(numba, "get_num_threads", lambda threads=threads: threads)
        file, folder = tmp_path / f"{threads}.json", tmp_path / f"{threads}"
        assert (
            main(
                [
                    *COMMANDS[command],
                    "--json",
                    str(file),
                    *(["--out", str(folder)] if command.startswith("map") else []),
                ]
            )
            == 0
        )
        found.append((numbers(json.loads(file.read_text())), [map_of(path) for path in sorted(folder.glob("*.nc"))]))
    assert found[0] == found[1]
    assert any(found[0])


def test_nor_does_it_when_the_environment_gives_it(tmp_path):
    """The environment sets the threads of Numba and of NumPy's linear algebra."""
    found = []
    for threads in "13":
        file = tmp_path / f"{threads}.json"
        command = [sys.executable, "-m", "annealvi", *COMMANDS["formula and ensemble"], "--json", str(file)]
        environment = {
            **os.environ,
            "NUMBA_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "OMP_NUM_THREADS": threads,
        }
        subprocess.run(command, env=environment, check=True, capture_output=True)
        found.append(numbers(json.loads(file.read_text())))
    assert found[0] == found[1]


@pytest.fixture(scope="module")
def quick():
    session = annealvi.open_session(annealvi.load_problem("bimodal", ["schedule.T0=3", "schedule.t0=5"]))
    return session, session.compile()


def test_the_size_of_the_chunks_changes_no_result(quick, monkeypatch):
    session, kernel = quick
    whole, heard = collapse_by_ensemble(session, n=500, seed=2, kernel=kernel), []
    trajectories = annealvi.integrate(session, n=100, t_end=5.0, points=3)
    for size in (1, 7, 250):
        monkeypatch.setattr(paths, "chunk_of", lambda kernel, size=size: size)
        parted = collapse_by_ensemble(session, n=500, seed=2, kernel=kernel, progress=lambda *done: heard.append(done))
        np.testing.assert_array_equal(parted.outcomes.covered, whole.outcomes.covered)
        np.testing.assert_array_equal(parted.t, whole.t)
        assert parted.as_dict() == whole.as_dict()
        np.testing.assert_array_equal(
            annealvi.integrate(session, n=100, t_end=5.0, points=3).values, trajectories.values
        )
    assert heard[-2:] == [(250, 500), (500, 500)]


def test_every_chunk_is_allowed_what_the_closest_pair_of_all_needs(quick, monkeypatch):
    session, _ = quick
    states = np.tile([0.1, -0.2, 0.3], (9, 1))
    states[4] = [0.1, 0.1, 1 - 1e-7]
    allowed, honest = [], Kernel.integrate

    def listening(self, *path, domain_tolerance=None, **options):
        allowed.append(domain_tolerance)
        return honest(self, *path, domain_tolerance=domain_tolerance, **options)

    monkeypatch.setattr(Kernel, "integrate", listening)
    monkeypatch.setattr(paths, "chunk_of", lambda kernel: 2)
    annealvi.integrate(session, states, t_end=1.0, points=2)
    assert allowed == [1e-3] * 5


def test_a_failure_tells_the_trajectory_by_its_number_among_all(quick, monkeypatch):
    _, kernel = quick
    states = np.tile([0.1, -0.2, 0.3], (9, 1))
    states[5] = [0.9, -0.9, 0.9]  # no vectors have these overlaps
    times = np.array([0.0, 1.0])
    for size in (2, 9):
        monkeypatch.setattr(paths, "chunk_of", lambda kernel, size=size: size)
        with pytest.raises(IntegrationError, match=r"^trajectory 5 ") as caught:
            paths.integrate_in_chunks(kernel, states, times, 1e-9, None)
        assert caught.value.trajectory == 5


def test_the_ends_under_a_rule_are_those_of_its_paths(monkeypatch):
    changes = ["schedule.kind='adaann'", "schedule.T0=1.5", "target.means=[[1.0], [-1.0]]", "proposal.radius=1.0"]
    session = annealvi.open_session(annealvi.load_problem("bimodal", changes))
    options = {"seed": 1, "rtol": 1e-6, "tolerance": 1e-6}
    whole = annealvi.integrate(session, n=3, points=2, **options)
    monkeypatch.setattr(paths, "chunk_of", lambda kernel: 2)
    ends = adaptive.ends_with_rule(session, 3, **options, max_cost=None, device="auto", progress=None, tell=None)
    assert ends.t == whole.t[-1]
    np.testing.assert_array_equal(ends.states, whole.values[:, -1])
    assert ends.method == whole.method


@pytest.mark.parametrize("name", ["bimodal", "simplex", "learned-weights"])
def test_outcomes_do_not_depend_on_how_many_are_judged_at_once(name):
    session = annealvi.open_session(annealvi.load_problem(name))
    states = session.random_states(200, 6)
    states[::2] = states[0]  # repeats one state many times
    judge = judging(session)
    alone = np.concatenate([judge(states[n : n + 1]).covered for n in range(len(states))])
    np.testing.assert_array_equal(outcomes_of_states(session, states).covered, alone)
