import os
import sys
from pathlib import Path

import pytest

os.environ.pop("COLUMNS", None)
"""What is printed to no terminal is wrapped where this is set; the tests say so themselves where they want it."""

if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    # Without bytecode each of the processes that the tests start compiles SymPy and Numba, which takes longer than most
    # of what it does then. It is kept beside the tests' own cache, and not beside the sources.
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(
        Path(__file__).parents[1] / ".pytest_cache" / "bytecode"
    )
    sys.dont_write_bytecode = False


@pytest.fixture
def hopper(monkeypatch):
    """Numba asks the present device for its architecture when a kernel calls another function; here it is told that of
    sm_90."""
    import numba.cuda.dispatcher

    class Hopper:
        compute_capability = (9, 0)

    monkeypatch.setattr(numba.cuda.dispatcher, "get_current_device", Hopper)
