"""This package's side of each benchmark.

It does the same work as the peers, and shows how time and error depend on what a user chooses.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from time import perf_counter
from typing import NamedTuple
from unittest import mock

import numba
import numpy as np
import peers

import annealvi
from annealvi.collapse.ensemble import compiled_for_ensembles
from annealvi.collapse.outcome import outcomes_of_states
from derive.problem.built_in import BUILT_IN
from kernels.particles.simulation import simulate_particles

STUDY = ["schedule.T0=30", "schedule.t0=288"]
REFERENCE_RUNS = 48


def initial_overlaps(n, d, seed=0):
    """n draws of (m_1, m_2, s) for three independent directions on the sphere in R^d; shape (n, 3)."""
    x = np.random.default_rng(seed).normal(size=(n, 2, d))
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    return np.stack([x[:, 0, 0], x[:, 1, 0], (x[:, 0] * x[:, 1]).sum(1)], 1)


def study_kernel(device="cpu", **options):
    return annealvi.open_session(annealvi.load_problem("bimodal", STUDY)).compile(device, **options)


def median_seconds(function, repeats=5):
    """Median time of `repeats` calls after one that compiles, and the last result."""
    function()
    seconds = []
    for _ in range(repeats):
        start = perf_counter()
        result = function()
        seconds.append(perf_counter() - start)
    return float(np.median(seconds)), result


def ensemble(starts, rtol=1e-7, kernel=None, repeats=5):
    """Seconds and final states (N, 3) of the study's ensemble.

    The averages are two orders finer than the steps.
    """
    kernel = study_kernel(tolerance=max(1e-14, rtol / 100)) if kernel is None else kernel
    seconds, run = median_seconds(
        lambda: kernel.integrate(starts, [0.0, peers.T_END], rtol=rtol, atol=rtol / 100), repeats
    )
    return seconds, run.y[:, -1]


def particle_rate(
    d=128, particles=256, replicas=16, steps=100, L=2, K=2, precision="float32", device="cpu", repeats=5, **options
):
    """Particle coordinates per second, without the start of a run, and the device.

    L components move under K modes; components and modes have equal weights and scales.
    """
    rng = np.random.default_rng(0)
    means, modes = rng.normal(size=(replicas, L, d)), rng.normal(size=(K, d))
    means *= peers.R / np.linalg.norm(means, axis=-1, keepdims=True)
    modes *= peers.R / np.linalg.norm(modes, axis=-1, keepdims=True)

    def run():
        return simulate_particles(
            means,
            modes,
            {"weights": np.full(K, 1 / K), "scales": np.ones(K)},
            {"weights": np.full(L, 1 / L), "scales": np.ones(L)},
            np.full(steps, 0.1),
            0.02,
            particles=particles,
            seed=1,
            record_every=steps,
            precision=precision,
            device=device,
            **options,
        )

    seconds, result = median_seconds(run, repeats)
    return replicas * L * particles * d * steps / seconds, result.device


def with_threads(count, function):
    """What `function` returns with `count` threads."""
    before = numba.get_num_threads()
    numba.set_num_threads(count)
    try:
        return function()
    finally:
        numba.set_num_threads(before)


def process_seconds(arguments, environment=None, repeats=5):
    """Median time of a Python process with these arguments, from its start to its end."""
    seconds = []
    for _ in range(repeats):
        start = perf_counter()
        subprocess.run(
            [sys.executable, *arguments], env={**os.environ, **(environment or {})}, check=True, capture_output=True
        )
        seconds.append(perf_counter() - start)
    return float(np.median(seconds))


COMPILE = """
import time, annealvi
begin = time.perf_counter()
session = annealvi.open_session(annealvi.load_problem("bimodal"))
derived = time.perf_counter()
kernel = session.compile("cpu")
tabulated = time.perf_counter()
kernel.integrate(session.random_states(64, 0), [0.0, 180.0])
print(derived - begin, tabulated - derived, time.perf_counter() - tabulated)
"""


def derive_and_compile():
    """Seconds to derive, to tabulate the averages, and to compile and run 64 trajectories.

    The first row is for an empty cache, the second for a filled one.
    """
    with tempfile.TemporaryDirectory() as cache:
        found = []
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-c", COMPILE],
                env={**os.environ, "ANNEALVI_CACHE_DIR": cache},
                check=True,
                capture_output=True,
                text=True,
            )
            found.append([float(word) for word in done.stdout.split()])
    return found


VERIFIED = tuple(BUILT_IN)


def verified(name):
    """Wall and processor seconds of `annealvi verify`, with an empty cache and then with a filled one."""
    found = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(2):
            before, begun = os.times(), perf_counter()
            subprocess.run(
                [sys.executable, "-m", "annealvi", "verify", name, "--device", "cpu"],
                env={**os.environ, "ANNEALVI_CACHE_DIR": cache},
                check=True,
                capture_output=True,
            )
            wall, after = perf_counter() - begun, os.times()
            of_children = after.children_user + after.children_system - before.children_user - before.children_system
            found.append((wall, of_children))
    return found


ENSEMBLES = (
    *("one-component", "two-scales", "more-components", "simplex"),
    *("learned-weights", "learned-scales", "square"),
)
SCHEDULES = ((300.0, 1152.0), (30.0, 288.0))
"""T0 and t0: the study's, and one under which many runs collapse."""
FEWER = {"square": 100}
"""The mixture whose averages are sums over three variables, and how many times fewer of its trajectories are run."""
MIXTURES = ("two-scales", "simplex", "more-components", "learned-weights", "learned-scales")
PEERS = {"learned-weights": (64, 1.0), "simplex": (1, 0.01)}
"""The mixtures that are written for diffrax, how many of their trajectories suffice to time it, and the part of the
path that both sides integrate: with nodes over two variables, diffrax takes minutes for a trajectory."""


class Timed(NamedTuple):
    """The seconds of a right-hand side, of a trajectory and of making the tables, and the rates at common states."""

    per_rate: float
    per_trajectory: float
    tables: float
    rates: np.ndarray


def mixture(name):
    """A mixture by series to 1e-8 and by lattices to as much, at states along paths under the problem's schedule.

    By lattices a trajectory would take seconds; its time is that of its right-hand sides, of which a step has twelve.
    """
    session = annealvi.open_session(annealvi.load_problem(name))
    starts, times = session.random_states(512, 0), np.array([0.0, 0.25, 1.0]) * session.end_time()
    with tempfile.TemporaryDirectory() as empty, mock.patch.dict(os.environ, {"ANNEALVI_CACHE_DIR": empty}):
        begun = perf_counter()
        kernel = session.compile("cpu", 1e-8)
        tables = perf_counter() - begun
    kernel.integrate(starts[:1], [0.0, 1e-3])  # compiles
    begun = perf_counter()
    run = kernel.integrate(starts, times, rtol=1e-6, atol=1e-8, domain_tolerance=1e-3)
    per_trajectory = (perf_counter() - begun) / len(starts)
    states = np.concatenate(run.y.transpose(1, 0, 2))
    per_rate = min(kernel.seconds_per_rate(states) for _ in range(20))
    series = Timed(per_rate, per_trajectory, tables, kernel.rhs_at_beta(1.0, states))
    sums = session.compile("cpu", 1e-8, "quadrature")
    per_rate = min(sums.seconds_per_rate(states) for _ in range(3))
    lattice = Timed(per_rate, 12 * run.steps.mean() * per_rate, 0.0, sums.rhs_at_beta(1.0, states))
    return {"series": series, "lattice": lattice}


class Settled(NamedTuple):
    """An ensemble of n trajectories that stop once they have settled, and `compared` of them run to the end."""

    n: int
    compared: int
    per_trajectory: float
    per_full_trajectory: float
    p: float
    settled: float
    unlike: int


def settled_ensemble(name, settings, n=10_000, compared=2000):
    """Compare an ensemble whose trajectories settle with runs to the end, under a schedule (T0, t0)."""
    T0, t0 = settings
    problem = annealvi.load_problem(name, [f"schedule.T0={T0}", f"schedule.t0={t0}"])
    session = annealvi.open_session(problem)
    kernel = compiled_for_ensembles(session, "cpu")
    annealvi.collapse_by_ensemble(session, n=100, kernel=kernel)  # compiles
    n, compared = n // FEWER.get(name, 1), compared // FEWER.get(name, 1)
    begun = perf_counter()
    found = annealvi.collapse_by_ensemble(session, n=n, kernel=kernel, seed=1)
    per_trajectory = (perf_counter() - begun) / n
    options = {"rtol": 1e-6, "atol": 1e-8, "domain_tolerance": 1e-3}
    begun = perf_counter()
    ends = kernel.integrate(session.random_states(compared, 1), [0.0, session.end_time()], **options).y[:, -1]
    per_full = (perf_counter() - begun) / compared
    unlike = (outcomes_of_states(session, ends).covered != found.outcomes.covered[:compared]).any(axis=1).sum()
    share = found.settled / n
    return Settled(n, compared, per_trajectory, per_full, found.outcomes.p, share, int(unlike))


def beside_diffrax(name, settings=SCHEDULES[1]):
    """Milliseconds a trajectory by diffrax and by this package, and the largest difference of their final states.

    Both sides integrate the same starts over the same time to rtol 1e-6, with averages to 1e-7 or better.
    """
    T0, t0 = settings
    session = annealvi.open_session(annealvi.load_problem(name, [f"schedule.T0={T0}", f"schedule.t0={t0}"]))
    count, part = PEERS[name]
    kernel, t_end = compiled_for_ensembles(session, "cpu"), part * session.end_time()
    own = session.random_states(1024, 0)
    given = few = own[:count]
    if name == "simplex":
        given = np.array([session.means_of_states(y, 5).ravel() / peers.R for y in few])
    seconds, ends = peers.mixture(getattr(peers, name.replace("-", "_")), given, settings, t_end)
    options = {"rtol": 1e-6, "atol": 1e-8, "domain_tolerance": 1e-3}
    kernel.integrate(own[:32], [0.0, 1.0], **options)  # compiles
    begun = perf_counter()
    run = kernel.integrate(own, [0.0, t_end], **options).y[:, -1]
    per_trajectory = (perf_counter() - begun) / len(own)
    if name == "simplex":
        ends = ends.reshape(len(few), 3, 5)
        ends = session.states_of_vectors(peers.R * ends / np.linalg.norm(ends, axis=2, keepdims=True))
    return 1e3 * seconds / len(few), 1e3 * per_trajectory, float(np.abs(ends - run[: len(few)]).max())
