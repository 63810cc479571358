"""The flag that tells compiled code to stop. Every loop that may take long reads it."""

from __future__ import annotations

from typing import Any

from numba import config, types
from numba.extending import intrinsic


@intrinsic
def _atomically(_: Any, flag: Any) -> tuple[Any, Any]:
    """An atomic load of the flag.

    The compiler would move an ordinary load out of a loop without stores, so that the loop would never see a change.
    """

    def load(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        word = builder.load_atomic(array.data, "monotonic", 8)
        return builder.icmp_signed("!=", word, word.type(0))

    return types.boolean(flag), load


def _plainly(flag: Any) -> bool:
    return bool(flag[0] != 0)


halted: Any = _plainly if config.DISABLE_JIT else _atomically
"""Whether another thread has set the flag, an array of one integer. Where Numba's compiler is disabled, kernels run as
plain Python and read the flag by an ordinary load."""
