"""A sweep that costs nothing, for tests that do not depend on the results."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annealvi.sweeps.sweep import Sweep, Variable


@dataclass(frozen=True)
class SmallSweep(Sweep):
    """A sweep of random numbers.

    rows, columns: the shape of the grid. width: how many numbers each unit has. seconds: the time that a unit takes.
    diary: a folder that receives a file for each run of a unit.
    """

    rows: int = 4
    columns: int = 5
    width: int = 3
    seconds: float = 0.0
    diary: str = ""
    seed: int = 0

    libraries = ("numpy",)

    @property
    def shape(self):
        return self.rows, self.columns

    @property
    def dims(self):
        return "y", "x"

    @property
    def variables(self):
        return {
            "value": Variable(("k",), (self.width,), {"long_name": "what it is"}),
            "unit": Variable(),
            "gpu": Variable(),
        }

    @property
    def coordinates(self):
        return {
            "y": (("y",), np.arange(float(self.rows))),
            "x": (("x",), np.array([f"column {n}" for n in range(self.columns)], object)),
        }

    @property
    def request(self):
        return {"rows": self.rows, "columns": self.columns, "width": self.width, "seed": self.seed}

    @property
    def remarks(self):
        return ("a sweep that costs nothing",)

    def check(self):
        pass

    def compute(self, unit, tell=None):
        time.sleep(self.seconds)
        if self.diary:
            Path(self.diary, f"{unit}-{time.time_ns()}-{os.getpid()}").touch()
        if tell is not None and unit == 1:
            tell("unit 1 has something to say")
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        values = np.random.Generator(np.random.Philox(key=[self.seed, unit])).standard_normal(self.width)
        return {"value": values, "unit": unit, "gpu": float(gpu) if self.seed == GPU and gpu else -1.0}

    def seconds_per_unit(self):
        return self.seconds


GPU = 99
"""The seed of a sweep that records the GPU of each unit."""
