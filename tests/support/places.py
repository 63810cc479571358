"""Where things are: the repository, and the folders that a test which runs in another process needs on its path."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
ROOMS = ("derive", "kernels", "annealvi", "oracles", "support", "hostile", "repository")
PYTHONPATH = os.pathsep.join(map(str, (ROOT, *(TESTS / room for room in ROOMS))))
