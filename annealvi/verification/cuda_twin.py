"""A program that runs the ODE and particle kernels on CUDA and on the CPU, and prints the largest differences as JSON.

It needs a process of its own, since Numba decides at import whether it simulates CUDA. The session comes pickled on
standard input.
"""

from __future__ import annotations

import json
import pickle
import sys

import numpy as np

from annealvi.session.particle_objective import objective_of_particles
from annealvi.session.session import Session
from kernels.particles.initial_means import uniform_sphere_means
from kernels.particles.runs import ParticleRun
from kernels.particles.simulation import simulate_particles

COARSE = 0.05
"""Tolerance of averages over several variables. It needs few nodes, for each of which the simulator takes
microseconds."""


def _ode_numbers(session: Session, device: str, states: np.ndarray) -> np.ndarray:
    """A short integration, or the rates alone if averages run over several variables.

    The steps are fixed: where the error is far below a tolerance, its estimate is rounding, which differs between the
    devices and would decide the length of an adaptive step.
    """
    if session.derivation.system.widest_average > 1:
        return session.compile(device, COARSE).rhs_at_beta(0.5, states[:1])
    return session.compile(device).integrate(states, np.array([0.0, 2.0]), fixed_steps=8).y


def main() -> None:
    session: Session = pickle.load(sys.stdin.buffer)
    states = session.random_states(3, seed=11)
    ode = [_ode_numbers(session, device, states) for device in ("cuda", "cpu")]
    problem = session.problem
    dimension = max(4, problem.target.coordinates)
    means = uniform_sphere_means(2, len(problem.proposal.weights), dimension, np.array(problem.proposal.radii), 5)
    clouds = [
        simulate_particles(
            means,
            *session.mixtures(dimension),
            np.array([0.2, 0.3]),
            0.1,
            particles=8,
            seed=5,
            manifold=problem.flow.manifold,
            learn=problem.flow.learn,
            device=device,
            objective=objective_of_particles(problem),
            covariances=session.covariances(),
        )
        for device in ("cuda", "cpu")
    ]
    ends = [_end_of(cloud) for cloud in clouds]
    json.dump(
        {"ode": float(np.abs(ode[0] - ode[1]).max()), "particles": float(np.abs(ends[0] - ends[1]).max())}, sys.stdout
    )


def _end_of(run: ParticleRun) -> np.ndarray:
    """The numbers of a run's end: the means, and the covariances if there are any."""
    covariances = [] if run.covariances is None else run.covariances[-1]
    return np.concatenate([run.final_means.ravel(), np.ravel(covariances)])


if __name__ == "__main__":
    main()
