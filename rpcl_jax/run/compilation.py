"""Compiled programs: kept on disk for the next command, and announced while they compile."""

import contextlib
import hashlib
import importlib.util
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import platformdirs

from rpcl_jax.errors import InputError
from rpcl_jax.files import atomic_write

if TYPE_CHECKING:
    import jax

_LOG = logging.getLogger(__name__)
MAX_CACHE_BYTES = 2**30  # a compiled step takes one or two MB
_ANNOUNCE_AFTER = 1.0  # seconds; loading a program from the cache takes less
_STARTED = time.time()
# JAX's settings that change what a function is traced to.
_TRACED_BY = (
    *("jax_enable_x64", "jax_default_matmul_precision", "jax_disable_jit"),
    *("jax_numpy_dtype_promotion", "jax_numpy_rank_promotion"),
)


def use_compilation_cache(folder: Path | None = None) -> None:
    """Turns on JAX's persistent compilation cache, for this process and the ones it starts.

    Unless JAX_COMPILATION_CACHE_DIR is set, the default is `cache_name` in the user's cache folder.
    If the folder is not writable, as in a read-only home directory, there is no cache.
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


def remembered(key: Sequence[Any], make: Callable[[], bytes]) -> bytes:
    """Returns what `make` returns, kept beside the compiled programs for the next command.

    It must depend on nothing but the `key`, the code of this package, of JAX and of Flax, and JAX's
    settings. Without a cache it is made each time.
    """
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    # What was edited since this process started is not what runs.
    if not folder or any(source.stat().st_mtime >= _STARTED for source in sources):
        return make()
    import flax
    import jax
    import jaxlib

    versions = [sys.version, *(module.__version__ for module in (flax, jax, jaxlib))]
    settings = [getattr(jax.config, name) for name in _TRACED_BY]
    digest = hashlib.sha256(repr([versions, settings, *key]).encode())
    for source in sources:
        digest.update(source.read_bytes())
    # JAX evicts files of such names, those first that were not used for longest.
    file = Path(folder) / f"rpcl_jax-{digest.hexdigest()}-cache"
    used = file.with_name(file.name.removesuffix("cache") + "atime")
    with contextlib.suppress(OSError):
        used.write_bytes(time.time_ns().to_bytes(8, "little"))
        checksum, kept = (content := file.read_bytes())[:32], content[32:]
        if hashlib.sha256(kept).digest() == checksum:  # else the file is damaged
            return kept
    made = make()
    # InputError: the cache is in a store, or its folder cannot be made.
    with contextlib.suppress(OSError, InputError), atomic_write(file) as opened:
        opened.write(hashlib.sha256(made).digest() + made)
    return made


class Compiled:
    """A jitted function that compiles once per set of argument shapes and says so."""

    def __init__(self, function: "jax.stages.Wrapped", name: str, key: str = ""):
        """Takes a function whose `name` completes the sentence "compiling …".

        With a `key`, it is traced once for all processes, for CPUs: see `remembered`. What it
        returns must be known to `jax.export`.
        """
        self.seconds = 0.0  # spent on compiling so far
        self._function = function
        self._name = name
        self._key = key
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
                self._programs[shapes] = self._lower(shapes, arguments).compile()
            finally:
                timer.cancel()
            self.seconds += time.perf_counter() - started
        return self._programs[shapes](*arguments)

    def _lower(self, shapes: tuple, arguments: tuple) -> "jax.stages.Lowered":
        import jax
        from jax import export

        leaves, tree = jax.tree.flatten(arguments)

        def trace() -> bytes:
            flat = jax.jit(lambda *leaves: self._function(*jax.tree.unflatten(tree, leaves)))
            return bytes(export.export(flat)(*leaves).serialize())

        if self._key:
            # Whatever fails here, below the function is traced anew, which raises its own errors.
            with contextlib.suppress(Exception):
                importlib.import_module("flatbuffers")  # which `serialize` misses after all work
                traced = export.deserialize(
                    bytearray(remembered([self._key, str(tree), shapes], trace))
                )
                call = jax.jit(lambda *arguments: traced.call(*jax.tree.leaves(arguments)))
                return call.lower(*arguments)
        return self._function.lower(*arguments)
