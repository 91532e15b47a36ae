"""How far a prediction or an encoding is: a bar in a terminal, else a line from time to time."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

_LOG = logging.getLogger(__name__)
_EVERY = 30.0  # seconds between the lines that say how far it is, without a terminal


@contextlib.contextmanager
def progress_bar(total: int, unit: str) -> Iterator[Callable[..., None]]:
    """Shows how far work on utterances is and how many it does in a second.

    Without a terminal, it logs a line from time to time.

    Args:
      total: how much there is to do.
      unit: of `total`, " files", " utterances" or "B" for bytes.

    Yields:
      A function that is told how many more utterances have been done, and how much of `total` in
      all.
    """
    terminal = sys.stderr.isatty() and _LOG.isEnabledFor(logging.INFO)
    started = shown = time.perf_counter()
    predicted = 0

    def advance(utterances: int, done: int) -> None:
        nonlocal predicted, shown
        predicted += utterances
        now = time.perf_counter()
        rate = f"{predicted / (now - started):.0f} utterances/s"
        if unit != " utterances":  # whose rate the bar shows anyway
            bar.set_postfix_str(rate, refresh=False)
        bar.update(done - bar.n)
        if not terminal and now - shown > _EVERY:
            shown = now
            part = f"{min(done / total, 1):.0%}" if unit == "B" else f"{done} of {total}{unit}"
            counted = "" if unit == " utterances" else f"{predicted} utterances, "
            _LOG.info(f"{part}, {counted}{rate}")

    with tqdm(total=total, unit=unit, unit_scale=True, disable=not terminal, leave=False) as bar:
        yield advance
