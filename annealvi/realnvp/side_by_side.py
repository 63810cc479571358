"""The flows of one run side by side: all in one program on a GPU, one group for each core on a CPU.

XLA's own threads gain little with networks of this size. The grouping decides how sums are rounded, so it depends on
the number of flows alone and not on the number of cores.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from annealvi.sweeps.engines import cores

LARGEST_GROUP = 4
"""More flows in one program gain next to nothing; a single flow takes nearly twice its share of a group of two."""

Result = TypeVar("Result")


@contextmanager
def computing_on(where: Any) -> Iterator[None]:
    """Put this thread's arrays on the JAX device `where`, and compute products in full single precision."""
    with jax.default_device(where), jax.default_matmul_precision("float32"):
        yield


def number_of_groups(flows: int, platform: str) -> int:
    """The number of groups into which the flows of a run are split.

    A CPU has at least two groups, of two to four flows each. Fewer than four flows are one group, and so are all flows
    on a GPU.
    """
    return 1 if platform != "cpu" or flows < 4 else max(2, math.ceil(flows / LARGEST_GROUP))


def number_of_threads(flows: int, platform: str) -> int:
    """The number of threads that share the groups."""
    return min(cores(), number_of_groups(flows, platform))


def in_groups(
    function: Callable[..., Result], where: Any, of_flows: tuple[Any, ...], *common: Any, interruptible: bool = False
) -> Result:
    """Compute function(*of_flows, *common) group by group.

    The first axis of each array in `of_flows` and in the result counts the flows. interruptible: the function takes one
    more argument, a function that says whether the calling thread was interrupted.
    """
    flows = len(jax.tree.leaves(of_flows)[0])
    count = number_of_groups(flows, where.platform)
    interrupted = threading.Event()
    rest = (*common, interrupted.is_set) if interruptible else common
    if count == 1:
        return function(*of_flows, *rest)
    bounds = [flows * n // count for n in range(count + 1)]

    def compute(n: int) -> Result:
        with computing_on(where):
            own = jax.tree.map(lambda array: array[bounds[n] : bounds[n + 1]], of_flows)
            return jax.block_until_ready(function(*own, *rest))

    with ThreadPoolExecutor(number_of_threads(flows, where.platform)) as pool:
        works = [pool.submit(compute, n) for n in range(count)]
        try:
            found = [work.result() for work in works]
        except BaseException:
            interrupted.set()
            raise
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *found)
