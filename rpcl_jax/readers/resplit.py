"""New train, dev and test splits for a corpus that has none, or only some."""

from collections.abc import Sequence

import numpy as np

from rpcl_jax.data.dialogue import Dialogue
from rpcl_jax.errors import InputError
from rpcl_jax.readers.corpus import SPLITS


def cut_anew(
    dialogues: Sequence[Dialogue], proportions: Sequence[str]
) -> dict[str, list[Dialogue]]:
    """Shuffles dialogues and cuts them into splits; the result is reproducible.

    Args:
      dialogues: of any splits. How they are shuffled depends only on their number.
      proportions: of train, dev and test, or of train and dev, positive numbers.
    """
    given = f"--cut={','.join(proportions)}"
    try:
        parts = np.array([float(part) for part in proportions])
    except ValueError:
        parts = np.array([])
    if len(parts) not in (2, 3) or not (np.isfinite(parts) & (parts > 0)).all():
        raise InputError(f"{given}: must be three positive numbers, or two for train and dev")
    order = np.random.default_rng(0).permutation(len(dialogues))
    ends = np.rint(np.cumsum(parts) / parts.sum() * len(dialogues)).astype(int)
    splits = {
        name: [dialogues[k] for k in sorted(of)]
        for name, of in zip(SPLITS, np.split(order, ends[:-1]), strict=False)
    }
    for name, of in splits.items():
        if not of:
            raise InputError(f"{given}: nothing is left for {name}")
    return splits
