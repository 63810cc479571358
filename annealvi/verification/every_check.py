"""The main job: all checks of a problem's equations, kernels and simulation, or a quick subset of them.

Symbolic checks run in another process, beside the compilation of the kernels and the particle simulations; CUDA is
compared with the CPU in a third. The checks are listed in one fixed order, whichever process ends first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from annealvi.session.session import Session
from annealvi.verification.against_particles import (
    PathComparison,
    compare_paths,
    compare_velocity,
    path_checks,
    settings_of,
    velocity_checks,
)
from annealvi.verification.check import Check
from annealvi.verification.cuda_against_cpu import cuda_check, start_twin
from annealvi.verification.derivation_steps import system_check
from annealvi.verification.kernel_numbers import (
    COARSE_TOLERANCE,
    COLD,
    kernel_checks,
    order_check,
    under,
    worst_state_check,
)
from annealvi.verification.kernel_numbers import TOLERANCE as KERNEL_TOLERANCE
from annealvi.verification.kl_gradient import Reference, grid_checks, mutant_check, references
from annealvi.verification.symbolic_beside import Task, found_by, start_symbolic
from annealvi.verification.theory import Theory
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked
from derive.problem.objective_scope import key_of_another_objective
from derive.problem.specification import BadInput

SUBJECTS = ("steps", "grid", "kernels", "limits", "velocity", "paths", "cuda", "mutants")
"""What the checks are about, in the order in which they are listed."""

NO_LIMITS = (
    "limits, symmetric states and holds: not compared, since they are derived for the tempered reverse KL of "
    "p*^beta alone"
)
LEFT_OUT = (
    "quick: a subset of the checks; left out are whole paths against particles, the kernel at its worst state, the "
    "order of the integrator, limits of the theory, CUDA against CPU, and one-term mutants on a grid"
)


@dataclass(frozen=True)
class Verification:
    """The outcome of `annealvi.verify`.

    Attributes
    ----------
    problem : str
        The problem's name.
    device : str
        The device on which the kernels ran.
    checks : tuple of Check
        All checks, each with `name`, `kind`, `statistic`, `bound`, `note` and `passed`.
    comparisons : tuple of PathComparison
        The paths behind the checks against particles; none after a quick verification.
    measured_errors : tuple of MeasuredError
        Measured errors of the kernel's averages, see `kernels.averages.tables.MeasuredError`.
    theory : Theory or None
        Limits, symmetric states and protected pair, if the problem has such a theory. Its checks are among `checks`.
    notes : tuple of str
        Lines that say which checks did not run, and why.
    seconds : float
        Wall time.
    quick : bool
        Whether only the quick subset of the checks ran.
    """

    problem: str
    device: str
    checks: tuple[Check, ...]
    comparisons: tuple[PathComparison, ...]
    measured_errors: tuple[Any, ...]
    theory: Theory | None
    notes: tuple[str, ...]
    seconds: float
    quick: bool = False

    SHOWN: ClassVar = ("problem", "passed", "checks", "seconds", "device")
    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from annealvi.show.printing import as_html
        from annealvi.verification.report import print_checks

        return as_html(print_checks, self)

    @property
    def passed(self) -> bool:
        """Whether there are checks and all of them passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """The content of `verify.json`."""
        return {
            "passed": self.passed,
            "problem": self.problem,
            "device": self.device,
            "seconds": self.seconds,
            "quick": self.quick,
            "checks": [{**asdict(check), "passed": check.passed} for check in self.checks],
            "notes": list(self.notes),
        }


class _Findings:
    """The checks and notes found so far, by subject, and the progress that is told of them."""

    def __init__(self, progress: Callable[[str], None] | None) -> None:
        self._progress = progress
        self._begun = time.perf_counter()
        self._found: dict[str, list[Check | str]] = {subject: [] for subject in SUBJECTS}

    def now(self, what: str) -> None:
        """Tell what runs now."""
        if self._progress is not None:
            self._progress(f"[{self.seconds:5.1f} s, {len(self.checks)} checks done] {what}")

    def take(self, subject: str, outcomes: Iterable[Check | str]) -> None:
        """Add checks, or the lines that say why checks did not run."""
        self._found[subject] += outcomes

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._begun

    @property
    def checks(self) -> tuple[Check, ...]:
        return tuple(c for found in self._found.values() for c in found if isinstance(c, Check))

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(line for found in self._found.values() for line in found if isinstance(line, str))


@checked
def verify(
    session: Session,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    quick: bool = False,
) -> Verification:
    """Check a problem's derivation, its generated kernels, and its equations against particle simulations.

    Parameters
    ----------
    session : Session
        The problem with its derivation, from `annealvi.open_session`.
    device : {"auto", "cpu", "cuda"}, optional
        Where kernels and particles run: "cpu", "cuda", or "auto" for a GPU if one is usable.
    seed : int, optional
        Seed of the particle simulations.
    progress : callable, optional
        Called with a line that says what runs now.
    quick : bool, optional
        Run a subset of the checks, for a first look after an installation: the derivation's steps, the gradient of the
        KL on grids, the kernels' numbers and one velocity by particles. The result says that it is a subset.

    Returns
    -------
    Verification
        Its `passed` says whether all checks hold; `checks` lists them with statistics and bounds.

    Raises
    ------
    BadInput
        The problem is a sphere in one dimension, where nothing moves, or `device` or `seed` is no valid choice.

    Examples
    --------
    >>> import annealvi
    >>> session = annealvi.open_session(annealvi.load_problem("bimodal"))
    >>> annealvi.verify(session, quick=True).passed  # doctest: +SKIP
    True
    """
    if session.problem.space.dimension == 1 and session.problem.flow.manifold == "sphere":
        raise BadInput(
            "space.dimension", "1, where a sphere is two points and nothing moves", "verify in at least 2 dimensions"
        )
    found = _Findings(progress)
    rule = session.problem.schedule.kind if session.rule is not None else None
    comparisons: list[PathComparison] = []
    with ExitStack() as processes:
        stepwise = session.with_rule() if rule == "adaann" else session.derivation
        limits = key_of_another_objective(session.problem) is None
        task = Task(stepwise, session.derivation if limits and not quick else None)
        symbolic = processes.enter_context(start_symbolic(task))
        found.now("compiling the generated kernels")
        narrow = session.derivation.system.widest_average <= 2
        kernel = under(session, COLD).compile(device, KERNEL_TOLERANCE if narrow else COARSE_TOLERANCE)
        found.now("kernels against mpmath")
        found.take("kernels", kernel_checks(session, device))
        if not quick:
            found.take("kernels", [worst_state_check(session), order_check(session)])
        found.now("one velocity by particles")
        found.take("velocity", velocity_checks(session, compare_velocity(session, device, seed)))
        if not quick:
            comparisons = _paths(session, device, seed, found)
            twin = start_twin(session)
            if not isinstance(twin, str):
                processes.enter_context(twin[1])
        found.now("gradient of the KL on grids")
        grid = references(session.problem)
        found.take("grid", grid_checks(session.problem, session.derivation, grid, session.values))
        if not quick:
            _mutants(session, grid, found)
        found.now("derivation steps in coordinates, 30 digits" + ("" if quick else "; limits of the theory"))
        steps, theory = found_by(symbolic)
        found.take("steps", [*steps, system_check(session.derivation)])
        found.take("limits", theory.checks.values() if isinstance(theory, Theory) else [theory] if theory else [])
        if not (limits or quick):
            found.take("limits", [NO_LIMITS])
        if not quick:
            found.now("CUDA against CPU")
            found.take("cuda", [twin if isinstance(twin, str) else cuda_check(*twin)])
    return Verification(
        session.problem.name,
        kernel.device,
        found.checks,
        tuple(comparisons),
        kernel.measured_errors,
        theory if isinstance(theory, Theory) else None,
        (*found.notes, LEFT_OUT) if quick else found.notes,
        found.seconds,
        quick,
    )


def _paths(session: Session, device: str, seed: int, found: _Findings) -> list[PathComparison]:
    if session.rule is not None:
        note = (
            f"schedule.kind {session.problem.schedule.kind}: paths are compared under fixed schedules; of the rule, "
            f"only what is derived of it is checked"
        )
        found.take("paths", [note])
    comparisons = [
        compare_paths(session, setting, device, seed, _percentage(found.now, f"particles, {setting.name}"))
        for setting in settings_of(session.problem)
    ]
    found.take("paths", path_checks(comparisons))
    return comparisons


def _mutants(session: Session, grid: list[Reference], found: _Findings) -> None:
    found.now("one-term mutants")
    outcome, survivors = mutant_check(session.derivation, grid)
    found.take("mutants", [outcome, *(f"survived: {mutant.label}" for mutant in survivors)])


def _percentage(now: Callable[[str], None], label: str) -> Callable[[int, int], None]:
    return lambda done, total: now(f"{label}: {100 * done // total} %")
