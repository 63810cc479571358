"""The paths of the repository and of the folders that tests in another process need on their path."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
ROOMS = ("derive", "kernels", "annealvi", "oracles", "support", "hostile", "repository")
PYTHONPATH = os.pathsep.join(map(str, (ROOT, *(TESTS / room for room in ROOMS))))
