"""The errors of an integration, each of which holds the state at which the trajectory stopped."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from kernels.machine.threads import TimeLimitError


class IntegrationError(ArithmeticError):
    """The integrator could not follow a trajectory. The message says why.

    Attributes
    ----------
    trajectory
        The index of the trajectory.
    time
        The time at which it stopped.
    state
        (states,) the state at which it stopped.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, trajectory: int, time: float, state: np.ndarray) -> None:
        super().__init__(message)
        self.trajectory, self.time, self.state = trajectory, time, state


class TooManyStepsError(IntegrationError):
    """The allowed number of steps did not reach the end."""


class DomainError(IntegrationError):
    """A state left the domain of the overlaps by more than the tolerance."""


class StoppedError(TimeLimitError):
    """The time limit of `kernels.machine.threads.at_most` stopped an integration.

    The attributes describe the first trajectory that had begun when the integration stopped.

    Attributes
    ----------
    steps
        How many steps it had attempted.
    time
        The time that it had reached.
    step
        The size of its next step.
    state
        (states,) its state at that time.
    """

    def __init__(self, steps: int, time: float, step: float, state: np.ndarray) -> None:
        super().__init__(f"stopped at t = {time:.6g}")
        self.steps, self.time, self.step, self.state = steps, time, step, state
