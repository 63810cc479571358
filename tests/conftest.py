import os
import sys
from pathlib import Path

import pytest

os.environ.pop("COLUMNS", None)
"""COLUMNS sets the width of text that is printed to no terminal; a test that needs a width sets COLUMNS itself."""

# OpenBLAS's threads wait for one another without a pause. Where other workers have the cores, small matrices would take
# ten times as long with them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

KEPT = Path(__file__).parents[1] / ".pytest_cache"

if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    # Without bytecode, each process that the tests start would compile SymPy's and Numba's sources, which takes longer
    # than most of its own work. The bytecode is kept in pytest's cache and not beside the sources.
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(KEPT / "bytecode")
    sys.dont_write_bytecode = False

# The tests train the same few small flows again and again, in several processes.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(KEPT / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def pytest_ignore_collect(collection_path, config):
    """With `-m quick`, skip the test files that hold no quick test, so that pytest does not import them."""
    quick = config.option.markexpr == "quick" and collection_path.name.startswith("test_")
    return True if quick and "mark.quick" not in collection_path.read_text(encoding="utf-8") else None


@pytest.fixture
def hopper(monkeypatch):
    """Let Numba compile for the architecture sm_90 without a device.

    When a kernel calls another function, Numba asks the current device for its architecture; a stand-in answers here.
    """
    import numba.cuda.dispatcher

    class Hopper:
        compute_capability = (9, 0)

    monkeypatch.setattr(numba.cuda.dispatcher, "get_current_device", Hopper)
