"""Compiled functions that other compiled functions take as arguments and call by pointer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import config, njit, types
from numba.core.sigutils import normalize_signature

from kernels.machine.kept_code import kept


def native(signature: str) -> Callable[[Any], NativeFunction]:
    """A decorator for a function with these types of result and arguments, such as "void(float64[::1])"."""
    return lambda function: NativeFunction(function, signature)


class NativeFunction(types.WrapperAddressProtocol):
    """A function that Numba passes on by its address. It is compiled, or read from the cache, when it is first needed.

    The protocol is that of Numba's first-class functions.
    """

    def __init__(self, function: Any, signature: str) -> None:
        arguments, result = normalize_signature(signature)
        self._signature = result(*arguments)
        # Numba asks for type and address at every call; finding them anew would take a hundred microseconds.
        self._numba_type_ = types.FunctionType(self._signature)
        self._address = 0
        compiler = njit(error_model="numpy", fastmath={"contract"}, no_cpython_wrapper=True, _nrt=False)
        self.dispatcher = kept(compiler)(function)

    def signature(self) -> Any:
        """The types of the result and the arguments."""
        return self._signature

    def compile(self) -> None:
        """Compile the function, or read it from the cache, unless this is done already."""
        if not self._address and not config.DISABLE_JIT:
            self.dispatcher.compile(self._signature)
            compiled = self.dispatcher.overloads[self._signature.args]
            self._address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_cfunc_wrapper_name)

    def __call__(self, *arguments: Any) -> Any:
        """Run the function where Numba is disabled, which debugging may ask for."""
        return self.dispatcher(*arguments)

    def __wrapper_address__(self) -> int:
        self.compile()
        return self._address
