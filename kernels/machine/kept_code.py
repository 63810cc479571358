"""Compiled functions kept between processes, in place of Numba's own cache.

That one runs what it finds without a check, fails at what is damaged, and ends the run where it cannot write. Here each
compiled function is a file that begins with the digest of the rest: half a file, or one with a bit the wrong way, is
compiled anew.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba.core.caching import Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from kernels.machine.module_cache import environment_digest, keep, read_kept

DIGEST = hashlib.sha256
SEAL = DIGEST().digest_size


def kept(compiler: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The decorator `compiler`, such as njit(nogil=True), whose functions' compiled code is kept."""

    def decorate(function: Any) -> Any:
        compiled = compiler(function)
        compiled._cache = KeptCode(function)
        return compiled

    return decorate


class KeptCode(Cache):
    """What Numba's dispatcher asks for compiled code and hands new code to."""

    cache_path = None

    def __init__(self, function: Any) -> None:
        self._py_func = function
        self._source = b""
        with suppress(OSError):  # of a module without a file, whose name then tells
            self._source = Path(function.__code__.co_filename).read_bytes()
        self.enable()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for arguments of these types, None where it is not kept or cannot be used."""
        target_context.refresh()
        content = read_kept(self._file(sig, target_context.codegen())) or b""
        if DIGEST(content[SEAL:]).digest() != content[:SEAL]:
            return None
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(content[SEAL:]))
        except Exception:  # whatever it is, compiling does without
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function, unless it holds addresses of this process."""
        if not data.library.has_dynamic_globals and not data.lifted:
            content = dumps(data._reduce())
            keep(self._file(sig, data.codegen), DIGEST(content).digest() + content)

    def flush(self) -> None:
        """Nothing: what is compiled anew is written anew."""

    def _file(self, sig: Any, codegen: Any) -> str:
        """Named by all that decides the code; Numba's key has the types, the processor, the byte code and what the
        function closes over."""
        function = self._py_func
        key = (
            environment_digest(),
            self._source,
            function.__module__,
            function.__qualname__,
            self._index_key(sig, codegen),
        )
        return f"{function.__name__}-{DIGEST(repr(key).encode()).hexdigest()[:32]}.compiled"
