"""The flag that tells compiled code to stop, which it looks at in every loop that may be long."""

from __future__ import annotations

from typing import Any

from numba import config, types
from numba.extending import intrinsic


@intrinsic
def _atomically(_: Any, flag: Any) -> tuple[Any, Any]:
    """An atomic load: without stores in a loop the compiler would take an ordinary one out of it and look once."""

    def load(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        word = builder.load_atomic(array.data, "monotonic", 8)
        return builder.icmp_signed("!=", word, word.type(0))

    return types.boolean(flag), load


def _plainly(flag: Any) -> bool:
    return bool(flag[0] != 0)


halted: Any = _plainly if config.DISABLE_JIT else _atomically
"""Whether another thread has set the flag, an array of one integer. Without a compiler the text of a kernel runs as
plain Python."""
