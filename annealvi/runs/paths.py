"""Paths of the summary statistics, which are the result of every run.

The module also has the limits, the remedies and the words that `integrate` and `simulate` share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from derive.objects.short_repr import short_repr
from derive.problem.objective_scope import require_isotropic, require_tempered_reverse_kl
from derive.problem.specification import BadInput, Problem

if TYPE_CHECKING:
    from annealvi.session.session import Session
    from kernels.integrate.batch import Trajectories
    from kernels.integrate.kernel import Kernel

MOST_NUMBERS = 200_000_000
"""Most values that a run may store: 1.6 GB in double precision."""

MOST_STEPS = 20_000_000
FASTER_INTEGRATION = "ask for fewer trajectories (--n, or in --initial), an earlier --t-end, or a larger --max-cost"
FASTER_ENSEMBLE = "ask for fewer trajectories (--n), a shorter schedule (schedule.t0), or a larger --max-cost"
FASTER_ADAPTIVE = "ask for fewer trajectories (--n) or a larger --max-cost"
FASTER_SIMULATION = "ask for fewer particles or replicas, an earlier --t-end, a longer --dt, or a larger --max-cost"
NOT_PROJECTED = "leave out --projected"

LATEST = 1e12
"""Latest end of a run, in the flow's time."""


@dataclass(frozen=True)
class Paths:
    """Paths of the summary statistics, one for each initial state or replica.

    Attributes
    ----------
    t : ndarray, shape (n_out,)
        Output times, in the flow's time.
    beta : ndarray, shape (n_out,)
        Inverse temperatures; (n, n_out) under an adaptive schedule.
    states : tuple of str
        Names of the states, in order.
    values : ndarray, shape (n, n_out, states)
        The paths.
    device, method : str
        What really ran.
    standard_error : ndarray, shape (n_out, states), or None
        Of the mean over replicas; for particles only.
    bias, bias_standard_error : ndarray, shape (n_out, states), or None
        The bias that the step dt/2 leaves in the mean, estimated by extrapolation; for extrapolated particles only.
    cost : mapping of str to ndarray, shape (n,), or None
        The work of an adaptive schedule, for particles only: "updates" of beta, "time_to_one" (nan where beta stayed
        below one), and evaluations of log p*, "rule_evaluations" by the rule and "gradient_evaluations" by the steps.
    projected : bool or None
        Whether the particles were drawn in the span of modes and means; None where there are no particles.
    nearest : ndarray, shape (n, L), or None
        The mode, counted from 0, that each component's mean is nearest to at the end.
    modes : int
        How many modes the target has.
    """

    t: np.ndarray
    beta: np.ndarray
    states: tuple[str, ...]
    values: np.ndarray
    device: str
    method: str
    standard_error: np.ndarray | None = None
    bias: np.ndarray | None = None
    bias_standard_error: np.ndarray | None = None
    cost: Mapping[str, np.ndarray] | None = None
    projected: bool | None = None
    nearest: np.ndarray | None = None
    modes: int = 0

    SHOWN: ClassVar = ("states", "values", "t", "device", "method")
    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from annealvi.runs.path_table import print_path_table
        from annealvi.show.printing import as_html

        return as_html(print_path_table, self)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form.

        Returns
        -------
        dict
            "trajectories" has an array (n, n_out) for each state, and `beta` has that shape under an adaptive schedule.
            "nearest_modes" is (n, L), with modes counted from 1.
        """
        result: dict[str, Any] = {
            "t": self.t,
            "beta": self.beta,
            "states": list(self.states),
            "trajectories": {name: self.values[:, :, n] for n, name in enumerate(self.states)},
            "device": self.device,
            "method": self.method,
        }
        if self.standard_error is not None:
            result["mean"] = {name: self.values[:, :, n].mean(0) for n, name in enumerate(self.states)}
            result["standard_error"] = {name: self.standard_error[:, n] for n, name in enumerate(self.states)}
        if self.bias is not None and self.bias_standard_error is not None:
            result["bias"] = {name: self.bias[:, n] for n, name in enumerate(self.states)}
            result["bias_standard_error"] = {name: self.bias_standard_error[:, n] for n, name in enumerate(self.states)}
        if self.cost is not None:
            result["cost"] = dict(self.cost)
        if self.nearest is not None:
            result["nearest_modes"] = self.nearest + 1
        if self.projected is not None:
            result["projected"] = self.projected
        return result


def require_tolerance(name: str, value: float) -> None:
    """Raise BadInput for a tolerance that averages cannot reach, or that is too coarse to be of use."""
    if not 1e-13 <= value <= 1e-2:
        raise BadInput(name, f"{value:g} is no tolerance", "give a number from 1e-13 to 1e-2", "")


def refuse_start_outside(kernel: Kernel, states: np.ndarray) -> None:
    """Raise BadInput for initial states (n, states) for which the kernel has no averages."""
    outside = kernel.outside(states)
    if outside is not None:
        raise BadInput(
            "--initial",
            f"{outside}, for which the averages' tables are made",
            "start nearer to the problem's lengths and scales",
            "",
        )


def chunk_of(kernel: Kernel) -> int:
    """How many trajectories are integrated in one call.

    The number is large enough to keep all lanes busy, and small enough that an interrupt and the progress bar need not
    wait long.
    """
    if kernel.where.kind != "cpu":
        return 2**20
    # Averages over several variables are slow.
    return 8 * side_by_side(kernel) if kernel.averages.groups else 250 * kernel.lanes


def chunks_of(kernel: Kernel, n: int) -> list[slice]:
    """Split the indices of n trajectories into chunks."""
    size = chunk_of(kernel)
    return [slice(first, min(first + size, n)) for first in range(0, n, size)]


def random_chunks(session: Session, kernel: Kernel, n: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield n random initial states chunk by chunk, each drawn when its turn comes."""
    return zip(chunks_of(kernel, n), session.random_states_in_parts(n, seed, chunk_of(kernel)), strict=True)


def integrate_in_chunks(
    kernel: Kernel, states: np.ndarray, times: np.ndarray, rtol: float, progress: Callable[[int, int], None] | None
) -> tuple[np.ndarray, Trajectories]:
    """Integrate states (n, states) chunk by chunk.

    Returns the paths (n, n_out, states) and the run of the first chunk, for the fields that all chunks have in common.
    """
    chunks = chunks_of(kernel, len(states))
    # One tolerance for all chunks, so that a path does not depend on the chunk it is in.
    tolerance = max(kernel.domain_tolerance(states[chunk], rtol) for chunk in chunks)
    runs = []
    if progress is not None:
        progress(0, len(states))
    for chunk in chunks:
        run = kernel.integrate(
            states[chunk], times, rtol=rtol, atol=rtol / 100, domain_tolerance=tolerance, number=chunk.start
        )
        runs.append(run)
        if progress is not None:
            progress(chunk.stop, len(states))
    return np.concatenate([run.y for run in runs]), runs[0]


def side_by_side(kernel: Kernel) -> int:
    """How many trajectories the device integrates at the same time."""
    import numba

    from kernels.integrate.executable import RESIDENT_THREADS

    return numba.get_num_threads() * kernel.lanes if kernel.where.kind == "cpu" else RESIDENT_THREADS


def inaccuracy(kernel: Kernel, tolerance: float) -> str:
    """Say how accurate the averages are where quasi-random points have not reached the tolerance, else nothing."""
    error = kernel.average_error
    return f", averages by quasi-random points to {error:.1e} only" if error > 2 * tolerance else ""


def flow_in_words(particles: int, dt: float, precision: str, projected: bool) -> str:
    """Say how particles were simulated."""
    return (
        f"stochastic gradient flow, {particles} {'projected ' if projected else ''}particles, dt = {dt:g}, {precision}"
    )


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the replicas and its standard error, which is NaN for one replica."""
    from kernels.particles.runs import mean_and_standard_error

    if len(values) == 1:
        return values[0], np.full(values.shape[1:], np.nan)
    return mean_and_standard_error(values, axis=0)


def refuse_projection(problem: Problem) -> None:
    """Raise BadInput for a problem that projected particles cannot simulate.

    Particles that are drawn in the span of modes and means only have the law of particles in all d dimensions only if
    each mixture has one scale and nothing but means is learned, and they are drawn for the tempered reverse KL of
    isotropic components.
    """
    require_tempered_reverse_kl(problem, "projected particles are drawn for", NOT_PROJECTED)
    require_isotropic(problem, "projected particles are drawn for", NOT_PROJECTED)
    for name, scales in (("target", problem.target.scales), ("proposal", problem.proposal.scales)):
        if len(set(scales)) > 1:
            raise BadInput(
                "--projected", f"it needs one scale in each mixture, and {name}.scales differ", NOT_PROJECTED, ""
            )
    if set(problem.flow.learn) != {"means"}:
        raise BadInput(
            "--projected",
            f"flow.learn names {' and '.join(problem.flow.learn)}, and it covers means alone",
            NOT_PROJECTED,
            "",
        )


def refuse_large(option: str, numbers: int) -> None:
    """Raise BadInput for more numbers than a run may store. option: the one to lower, for the message."""
    if numbers > MOST_NUMBERS:
        raise BadInput(option, f"{numbers:.3g} stored numbers", f"ask for at most {MOST_NUMBERS:.0e}", "")
