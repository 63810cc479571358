import os
import sys
from pathlib import Path

import pytest

os.environ.pop("COLUMNS", None)
"""What is printed to no terminal is wrapped where this is set; the tests say so themselves where they want it."""

KEPT = Path(__file__).parents[1] / ".pytest_cache"

if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    # Without bytecode each of the processes that the tests start compiles SymPy and Numba, which takes longer than most
    # of what it does then. It is kept in pytest's cache, and not beside the sources.
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(KEPT / "bytecode")
    sys.dont_write_bytecode = False

# The tests train the same few small flows again and again, in several processes.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(KEPT / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def pytest_ignore_collect(collection_path, config):
    """The quick tests alone are found without an import of the others' modules."""
    quick = config.option.markexpr == "quick" and collection_path.name.startswith("test_")
    return True if quick and "mark.quick" not in collection_path.read_text(encoding="utf-8") else None


@pytest.fixture
def hopper(monkeypatch):
    """Numba asks the present device for its architecture when a kernel calls another function; here it is told that of
    sm_90."""
    import numba.cuda.dispatcher

    class Hopper:
        compute_capability = (9, 0)

    monkeypatch.setattr(numba.cuda.dispatcher, "get_current_device", Hopper)
