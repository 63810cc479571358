"""What runs make, paths of the summary statistics; and what they share: limits, remedies, words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from derive.objects.short_repr import short_repr
from derive.problem.specification import BadInput, Problem

if TYPE_CHECKING:
    from annealvi.session.session import Session
    from kernels.integrate.batch import Trajectories
    from kernels.integrate.kernel import Kernel

MOST_NUMBERS = 200_000_000
"""Largest number of stored values that a command accepts: 1.6 GB in double precision."""

MOST_STEPS = 20_000_000
FASTER_INTEGRATION = "ask for fewer trajectories (--n, or in --initial), an earlier --t-end, or a larger --max-cost"
FASTER_ENSEMBLE = "ask for fewer trajectories (--n), a shorter schedule (schedule.t0), or a larger --max-cost"
FASTER_ADAPTIVE = "ask for fewer trajectories (--n) or a larger --max-cost"
FASTER_SIMULATION = "ask for fewer particles or replicas, an earlier --t-end, a longer --dt, or a larger --max-cost"
NOT_PROJECTED = "leave out --projected"

LATEST = 1e12


@dataclass(frozen=True)
class Paths:
    """t: (n_out,). beta: (n_out,), or (n, n_out) under an adaptive schedule. states: the names, in order.

    values: (n, n_out, states), one path per initial state or replica.

    device, method: what really ran. standard_error: (n_out, states) of the mean over replicas, for particles only.
    bias, bias_standard_error: (n_out, states) that the step dt/2 leaves in the mean, estimated by extrapolation; for
    extrapolated particles only. cost: what an adaptive schedule took, each (n,): "updates" of beta, "time_to_one", nan
    where beta stayed below it, and evaluations of log p*, "rule_evaluations" by the rule and "gradient_evaluations" by
    the steps; for particles only. projected: whether particles were drawn in the span of modes and means; None where
    there are none. nearest: (n, L) the mode, counted from 0, that each component's mean is nearest to in the end.
    modes: how many the target has.
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
        """The JSON form: trajectories by state, each a list over paths of a list over times; `beta` likewise under an
        adaptive schedule.

        "nearest_modes": for each path a list over components, modes counted from 1.
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
    """BadInput for what the averages cannot be, or need not be, right to."""
    if not 1e-13 <= value <= 1e-2:
        raise BadInput(name, f"{value:g} is no tolerance", "give a number from 1e-13 to 1e-2", "")


def refuse_start_outside(kernel: Kernel, states: np.ndarray) -> None:
    outside = kernel.outside(states)
    if outside is not None:
        raise BadInput(
            "--initial",
            f"{outside}, for which the averages' tables are made",
            "start nearer to the problem's lengths and scales",
            "",
        )


def chunk_of(kernel: Kernel) -> int:
    """How many trajectories run between two looks at the keyboard and two movements of a bar: enough to keep all lanes
    busy."""
    if kernel.where.kind != "cpu":
        return 2**20
    return (
        250 * kernel.lanes if kernel.lanes > 1 else 8 * side_by_side(kernel)
    )  # a single lane has averages over several variables


def chunks_of(kernel: Kernel, n: int) -> list[slice]:
    """n trajectories in chunks."""
    size = chunk_of(kernel)
    return [slice(first, min(first + size, n)) for first in range(0, n, size)]


def random_chunks(session: Session, kernel: Kernel, n: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
    """n random initial states in chunks, drawn when their turn comes."""
    return zip(chunks_of(kernel, n), session.random_states_in_parts(n, seed, chunk_of(kernel)), strict=True)


def integrate_in_chunks(
    kernel: Kernel, states: np.ndarray, times: np.ndarray, rtol: float, progress: Callable[[int, int], None] | None
) -> tuple[np.ndarray, Trajectories]:
    """The paths (n, n_out, states) from all states (n, states), and the first chunk's run, which tells what the chunks
    have in common."""
    chunks = chunks_of(kernel, len(states))
    tolerance = max(
        kernel.domain_tolerance(states[chunk], rtol) for chunk in chunks
    )  # of all, whichever chunk the closest pair is in
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
    """How many trajectories run side by side."""
    import numba

    from kernels.integrate.executable import RESIDENT_THREADS

    return numba.get_num_threads() * kernel.lanes if kernel.where.kind == "cpu" else RESIDENT_THREADS


def inaccuracy(kernel: Kernel, tolerance: float) -> str:
    """What is to be said where quasi-random points have not reached the tolerance."""
    error = kernel.average_error
    return f", averages by quasi-random points to {error:.1e} only" if error > 2 * tolerance else ""


def flow_in_words(particles: int, dt: float, precision: str, projected: bool) -> str:
    """How particles were simulated."""
    return (
        f"stochastic gradient flow, {particles} {'projected ' if projected else ''}particles, dt = {dt:g}, {precision}"
    )


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the replicas and its standard error, which one replica does not give (NaN)."""
    from kernels.particles.runs import mean_and_standard_error

    if len(values) == 1:
        return values[0], np.full(values.shape[1:], np.nan)
    return mean_and_standard_error(values, axis=0)


def refuse_projection(problem: Problem) -> None:
    """Raise BadInput where particles drawn in the span of modes and means would follow another law than those in all d
    dimensions."""
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
    if numbers > MOST_NUMBERS:
        raise BadInput(option, f"{numbers:.3g} stored numbers", f"ask for at most {MOST_NUMBERS:.0e}", "")
