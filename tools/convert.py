"""Converts a benchmark or transcripts to our own format, JSON lines.

rpcl convert --config=ecf --out=runs/ecf [--splits=dev] [--cut=60,20,20]
rpcl convert --input=FILE_OR_FOLDER --out=mine.jsonl

The first loses nothing. It writes OUT/train.jsonl, OUT/dev.jsonl and OUT/test.jsonl, one
conversation per line, and replaces existing files. The config names the benchmark;
`--config.data.root=FOLDER` is where it lies. `--cut` shuffles the conversations of all splits and
cuts them into new train, dev and test splits in these proportions, for data without splits or with
only one of them. With two proportions (`--splits=train,test --cut=90,10`), the others are cut into
train and dev, and test is kept. The same data are always cut in the same way. The files contain the
texts, so keep them only where the corpus may be kept.

The second takes whatever `rpcl predict` takes: subtitles, tables, plain text and others, see
docs/data.md. It writes one file, with clips where times are given. What cannot be read is listed,
and the exit status is then 1.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from rpcl_jax.data.dialogue import check_unique
from rpcl_jax.errors import InputError
from rpcl_jax.readers.conversations import write_conversations
from rpcl_jax.readers.corpus import SPLITS, load_splits
from rpcl_jax.readers.resplit import cut_anew
from rpcl_jax.readers.tables import parse_columns
from rpcl_jax.readers.transcripts import convert
from rpcl_jax.run.command_line import define_columns, require, require_config, run_command

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Names the benchmark.")
_INPUT = flags.DEFINE_string("input", "", "File or folder of transcripts, in place of --config.")
_COLUMNS = define_columns()
_OUT = flags.DEFINE_string("out", "", "Folder of the files; with --input the file.")
_SPLITS = flags.DEFINE_list("splits", list(SPLITS), "The splits to convert; others may be missing.")
_CUT = flags.DEFINE_list("cut", [], "Proportions of new splits: train,dev,test or train,dev.")


def _check_flags() -> None:
    if not _INPUT.value:
        require_config(_CONFIG)
        if _COLUMNS.value:
            raise flags.Error("--columns is of --input; leave it out")
    elif _CONFIG.value is not None or _CUT.value or flags.FLAGS["splits"].present:
        raise flags.Error("--input takes no --config, --splits or --cut; leave them out")
    elif not _OUT.value.endswith(".jsonl"):
        raise flags.Error("--out is required with --input, a file whose name ends in .jsonl")
    require(_OUT)


def _convert() -> None:
    if _INPUT.value:
        columns = parse_columns(_COLUMNS.value)
        written, left_out = convert(Path(_INPUT.value), Path(_OUT.value), columns)
        print(f"{_OUT.value}: {written} conversations")
        if left_out:
            raise InputError(f"{left_out} conversations cannot be read and were left out")
        return
    splits = load_splits(_CONFIG.value, _SPLITS.value)
    if _CUT.value:
        check_unique([d for dialogues in splits.values() for d in dialogues], ",".join(splits))
        kept = {"test": splits.pop("test")} if len(_CUT.value) == 2 and "test" in splits else {}
        others = [dialogue for dialogues in splits.values() for dialogue in dialogues]
        splits = cut_anew(others, _CUT.value) | kept
    for split, dialogues in splits.items():
        path = Path(_OUT.value) / f"{split}.jsonl"
        write_conversations(path, dialogues)
        print(f"{path}: {len(dialogues)} conversations")


if __name__ == "__main__":
    run_command("convert", _convert, _check_flags)
