import os

import pytest

os.environ.pop("COLUMNS", None)
"""What is printed to no terminal is wrapped where this is set; the tests say so themselves where they want it."""


@pytest.fixture
def hopper(monkeypatch):
    """Numba asks the present device for its architecture when a kernel calls another function; here it is told that of
    sm_90."""
    import numba.cuda.dispatcher

    class Hopper:
        compute_capability = (9, 0)

    monkeypatch.setattr(numba.cuda.dispatcher, "get_current_device", Hopper)
