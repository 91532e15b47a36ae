"""Compiled programs: kept on disk for the next command, and announced while they compile."""

import importlib.util
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import platformdirs

if TYPE_CHECKING:
    import jax

_LOG = logging.getLogger(__name__)
MAX_CACHE_BYTES = 2**30  # a compiled step takes one or two MB
_ANNOUNCE_AFTER = 1.0  # seconds; loading a program from the cache takes less


def use_compilation_cache(folder: Path | None = None) -> None:
    """Turns on JAX's persistent compilation cache, for this process and the ones it starts.

    Does nothing if the user has set `JAX_COMPILATION_CACHE_DIR`. If `folder` is not writable, as in
    a read-only home directory, there is no cache.

    Args:
      folder: of the cache; by default `cache_name` in `rpcl_jax` in the user's cache folder.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = folder or platformdirs.user_cache_path("rpcl_jax") / cache_name()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # JAX takes the same lock to read, to write and to evict.
        with filelock.FileLock(folder / ".lockfile", timeout=10):
            _remove_half_written(folder)
    except (OSError, filelock.Timeout):
        return
    # The environment is for the processes this one starts, and for JAX if it is not yet imported.
    for name, value in cache_settings(folder).items():
        os.environ.setdefault(name.upper(), str(value))
        if "jax" in sys.modules:
            sys.modules["jax"].config.update(name, value)


def cache_name() -> str:
    """Returns a name for a cache that Pythons share only if JAX compresses programs alike in them.

    Otherwise one would find programs of another that it cannot read, and compile them every time.
    """
    zstd = sys.version_info >= (3, 14) or importlib.util.find_spec("zstandard") is not None
    return "compiled-zstd" if zstd else "compiled-zlib"


def cache_settings(folder: Path) -> dict[str, str | int | float]:
    """Returns JAX's settings for a cache of compiled programs in `folder`, by name."""
    return {
        "jax_compilation_cache_dir": str(folder),
        "jax_compilation_cache_max_size": MAX_CACHE_BYTES,
        "jax_persistent_cache_min_compile_time_secs": 0.2,
    }


def _remove_half_written(folder: Path) -> None:
    """Removes programs that a killed process left half-written.

    JAX writes a program in place, and its access time afterwards. It never replaces a program, so
    every later run would try to read a truncated one and fail.
    """
    for program in folder.glob("*-cache"):
        if not program.with_name(program.name.removesuffix("-cache") + "-atime").exists():
            program.unlink(missing_ok=True)


class Compiled:
    """A jitted function that compiles once per set of argument shapes and says so.

    Attributes:
      seconds: spent on compiling so far.
    """

    def __init__(self, function: "jax.stages.Wrapped", name: str):
        """`name` completes the sentence "compiling …"."""
        self.seconds = 0.0
        self._function = function
        self._name = name
        self._programs: dict[tuple, Callable] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Calls the program for the shapes of `arguments`."""
        import jax

        shapes = tuple((x.shape, x.dtype) for x in jax.tree.leaves(arguments))
        if shapes not in self._programs:
            started = time.perf_counter()
            timer = threading.Timer(_ANNOUNCE_AFTER, _LOG.info, [f"compiling {self._name} …"])
            timer.start()
            try:
                self._programs[shapes] = self._function.lower(*arguments).compile()
            finally:
                timer.cancel()
            self.seconds += time.perf_counter() - started
        return self._programs[shapes](*arguments)
