"""A cache of compiled functions between processes, in place of Numba's own cache.

Numba's cache runs the code in its files without a check, fails at damaged files, and ends the run where it cannot
write. Here each compiled function is a file that begins with the digest of its other content. If a file is incomplete
or damaged, its function is compiled again.
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
    """A decorator that compiles like `compiler`, such as njit(nogil=True), and keeps the compiled code in the cache."""

    def decorate(function: Any) -> Any:
        compiled = compiler(function)
        compiled._cache = KeptCode(function)
        return compiled

    return decorate


class KeptCode(Cache):
    """The cache of one function: Numba's dispatcher asks it for compiled code, and passes new code to it."""

    cache_path = None

    def __init__(self, function: Any) -> None:
        self._py_func = function
        self._source = b""
        with suppress(OSError):  # a module without a file is known by its name alone
            self._source = Path(function.__code__.co_filename).read_bytes()
        self.enable()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for arguments of these types, or None if the cache has none that can be used."""
        target_context.refresh()
        content = read_kept(self._file(sig, target_context.codegen())) or b""
        if DIGEST(content[SEAL:]).digest() != content[:SEAL]:
            return None
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(content[SEAL:]))
        except Exception:  # whatever the fault is, the function can be compiled again
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function, unless its code contains addresses of this process."""
        if not data.library.has_dynamic_globals and not data.lifted:
            content = dumps(data._reduce())
            keep(self._file(sig, data.codegen), DIGEST(content).digest() + content)

    def flush(self) -> None:
        """Do nothing: a function that is compiled again replaces its file."""

    def _file(self, sig: Any, codegen: Any) -> str:
        """The name of the file, a digest of everything that determines the code.

        Numba's key contains the types, the processor, the byte code and the values that the function closes over.
        """
        function = self._py_func
        key = (
            environment_digest(),
            self._source,
            function.__module__,
            function.__qualname__,
            self._index_key(sig, codegen),
        )
        return f"{function.__name__}-{DIGEST(repr(key).encode()).hexdigest()[:32]}.compiled"
