"""The flag that tells compiled code to stop, which it looks at in every loop that may be long."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic


@intrinsic
def halted(_: Any, flag: Any) -> tuple[Any, Any]:
    """Whether another thread has set the flag, an array of one integer.

    An atomic load: without stores in a loop the compiler would take an ordinary one out of it and look once.
    """

    def load(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        word = builder.load_atomic(array.data, "monotonic", 8)
        return builder.icmp_signed("!=", word, word.type(0))

    return types.boolean(flag), load
