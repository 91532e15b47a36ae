"""Chunks of an extraction as tasks of Ray workers, each of which has loaded the model once."""

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from rpcl_jax.cluster.start import machines, not_shared
from rpcl_jax.errors import InputError
from rpcl_jax.extraction.extract import AHEAD, Clips, Extract, embed_clips, read_clip
from rpcl_jax.extraction.extractors import Extractor, load_extractor, torch
from rpcl_jax.extraction.finding import ClipError

_RETRIES = 3  # of a chunk whose worker was killed


def extract_on_ray(ray: ModuleType, description: dict[str, Any]) -> Extract:
    """Returns the `extract` of `rpcl_jax.extraction.extract.extract_table` that uses a cluster.

    Each GPU has a worker; without GPUs each machine has one, and openSMILE, which uses one core and
    no GPU, one per core.

    Args:
      description: of the extractor; that of a worker must be the same.
    """
    one_core = description["extractor"] == "opensmile"
    nodes = machines(ray)
    if not one_core and any(node.get("GPU") for node in nodes):
        asks = {"GPU": 1.0, "CPU": 1.0}
    else:
        cpus = [node["CPU"] for node in nodes if node.get("CPU")]
        asks = {"CPU": 1.0 if one_core else min(cpus, default=1.0)}
    places = sum(min(int(node.get(k, 0) // v) for k, v in asks.items()) for node in nodes)
    worker = ray.remote(_Worker).options(
        num_gpus=asks.get("GPU", 0),
        num_cpus=asks["CPU"],
        max_concurrency=AHEAD + 1,
        max_restarts=-1,
        max_task_retries=_RETRIES,
        # As many as here, because the last bits may depend on it; Ray would set one per CPU asked.
        runtime_env={"env_vars": {"OMP_NUM_THREADS": str(torch.get_num_threads())}},
    )
    folder = os.getcwd()

    def extract(
        chunks: Iterable[tuple[int, Clips]],
    ) -> Iterator[tuple[int, np.ndarray, list[str]]]:
        waiting = deque(chunks)
        count = max(1, min(places, len(waiting)))
        workers = [worker.remote(description, folder) for _ in range(count)]
        free = deque(workers * (AHEAD + 1))
        running: dict[Any, tuple[int, Any]] = {}
        while waiting or running:
            while waiting and free:
                chunk, clips = waiting.popleft()
                used = free.popleft()
                running[used.extract.remote(clips)] = chunk, used
            (done,), _ = ray.wait(list(running))
            chunk, used = running.pop(done)
            free.append(used)
            try:
                rows, reasons = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                raise InputError(
                    f"chunk {chunk}: its worker was killed {_RETRIES + 1} times "
                    f"({' '.join(str(error).split())}); look at its clips, or at the memory of the "
                    "machines, and run the same command again to continue"
                ) from error
            yield chunk, rows, reasons

    return extract


class _Worker:
    """Keeps a model. Several threads call it, so that some read clips while one computes."""

    def __init__(self, description: dict[str, Any], folder: str):
        self._description = description
        self._folder = folder
        self._one_at_a_time = threading.Lock()
        self._extractor: Extractor | None = None
        self._readers = ThreadPoolExecutor(min(8, os.cpu_count() or 1))

    def extract(self, clips: Clips) -> tuple[np.ndarray, list[str]]:
        """Returns the rows and reasons of a chunk; see `embed_clips`."""
        with self._one_at_a_time:
            extractor = self._extractor = self._extractor or self._load()
        for clip in clips:
            if not isinstance(clip, ClipError) and not clip.path.exists():
                raise not_shared(clip.path)
        read = list(self._readers.map(partial(read_clip, extractor), clips))
        with self._one_at_a_time:
            return embed_clips(extractor, read)

    def _load(self) -> Extractor:
        # Not in __init__, whose errors Ray wraps in a paragraph.
        if not Path(self._folder).is_dir():
            raise not_shared(Path(self._folder))
        os.chdir(self._folder)  # the paths of clips and model are relative to it
        each = self._description
        # Refuses another revision of the model than the description has.
        return load_extractor(each["extractor"], each["model"], each["revision"])
