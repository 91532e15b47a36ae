"""Writes a benchmark in our own format (rpcl_jax/readers/conversations.py), lossless.

python tools/convert.py --config=configs/ecf.py --out=runs/ecf [--splits=dev] [--cut=60,20,20]

Writes OUT/train.jsonl, OUT/dev.jsonl and OUT/test.jsonl, one conversation per line, of whatever
benchmark the config names; those that are there are replaced. `--config.data.root=FOLDER` says
where the benchmark lies. `--cut` mixes the conversations of all splits and cuts them anew, into
parts of train, dev and test in these proportions: for data that come without splits, or of which
one split alone is to be had. The files hold the texts: keep them where those may be kept.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # a script: not tools/, whose statistics.py is not Python's, but the repository
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from absl import flags
from ml_collections import config_flags

from rpcl_jax.data.dialogue import Dialogue, check_unique
from rpcl_jax.errors import InputError
from rpcl_jax.readers.conversations import write_conversations
from rpcl_jax.readers.corpus import SPLITS, load_splits
from rpcl_jax.run.command_line import check_config, run_command

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Names the benchmark.")
_OUT = flags.DEFINE_string("out", "", "Folder of the files.")
_SPLITS = flags.DEFINE_list("splits", list(SPLITS), "Which; the others need not be there.")
_CUT = flags.DEFINE_list("cut", [], "Proportions of new splits: train,dev,test.")


def cut_anew(
    dialogues: Sequence[Dialogue], proportions: Sequence[str]
) -> dict[str, list[Dialogue]]:
    """New splits of `dialogues`, in an order that is a function of their number alone.

    Args:
      dialogues: of any splits.
      proportions: of train, dev and test, positive numbers.

    Raises:
      InputError: the proportions are no such numbers, or leave a split empty.
    """
    try:
        parts = np.array([float(part) for part in proportions])
    except ValueError:
        parts = np.array([])
    if len(parts) != len(SPLITS) or not (np.isfinite(parts) & (parts > 0)).all():
        raise InputError(f"--cut={','.join(proportions)}: must be three positive numbers")
    order = np.random.default_rng(0).permutation(len(dialogues))
    ends = np.rint(np.cumsum(parts) / parts.sum() * len(dialogues)).astype(int)
    splits = {
        name: [dialogues[k] for k in sorted(of)]
        for name, of in zip(SPLITS, np.split(order, ends[:-1]), strict=True)
    }
    for name, of in splits.items():
        if not of:
            raise InputError(f"--cut={','.join(proportions)}: nothing is left for {name}")
    return splits


def main() -> None:
    """Reads the flags and writes the files."""
    run_command("convert", _convert, _check_flags)


def _check_flags() -> None:
    check_config(_CONFIG)
    if not _OUT.value:
        raise flags.Error("--out is needed, a folder for the files")


def _convert() -> None:
    splits = load_splits(_CONFIG.value, _SPLITS.value)
    if _CUT.value:
        everything = [dialogue for dialogues in splits.values() for dialogue in dialogues]
        check_unique(everything, ",".join(splits))
        splits = cut_anew(everything, _CUT.value)
    for split, dialogues in splits.items():
        path = Path(_OUT.value) / f"{split}.jsonl"
        write_conversations(path, dialogues)
        print(f"{path}: {len(dialogues)} conversations")


if __name__ == "__main__":
    main()
