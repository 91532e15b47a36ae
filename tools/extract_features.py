"""Extracts the feature table of a corpus from its clips.

rpcl extract --config=ecf --clips=data/ECF/clips --extractor=wav2vec2 \
  --out=data/ECF/features/audio

Conversations of your own are given by --input=FILE_OR_FOLDER in place of --config, in any format
that `rpcl predict` takes; they need no labels, and neither do those in our own format.

A clip is either a file named like the utterance or, where the corpus gives times, a part of an
episode. With ECF, MELD's clips are used too, if its all_data_pair_ECFvsMELD.txt is in the folder of
the corpus. The same command continues an interrupted extraction. On a cluster, run it with
--shard=1/8 to --shard=8/8, simultaneously or not, and then once without --shard to make the table.
Utterances whose clips are missing or broken get no row and are listed at the end; with --strict
they make the command fail before it writes a table. With --engine=ray the machines of a cluster
extract, and this one writes the table; see docs/scaling.md.
"""

import logging
import os
from collections import Counter
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from rpcl_jax.data.dialogue import with_unique_ids
from rpcl_jax.errors import InputError
from rpcl_jax.extraction.finding import find_clips
from rpcl_jax.readers.corpus import SPLITS, load_splits, sources
from rpcl_jax.readers.ecf import read_meld_names
from rpcl_jax.readers.tables import parse_columns
from rpcl_jax.readers.transcripts import read_dialogues
from rpcl_jax.run.command_line import (
    check_engine,
    define_columns,
    define_engine,
    require,
    require_config,
    run_command,
)

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Names the corpus; see configs/.")
_INPUT = flags.DEFINE_string("input", "", "File or folder of transcripts, in place of --config.")
_COLUMNS = define_columns()
_CLIPS = flags.DEFINE_string("clips", "", "Folder of videos or sounds, subfolders included.")
_EXTRACTOR = flags.DEFINE_string("extractor", "", "wav2vec2, opensmile or clip.")
_MODEL = flags.DEFINE_string(
    "model", "", "Folder or hub name; default: see rpcl_jax/extraction/extractors.py."
)
_REVISION = flags.DEFINE_string("revision", "", "Of a model from the hub: commit, branch or tag.")
_OUT = flags.DEFINE_string("out", "", "Folder of the table.")
_SPLITS = flags.DEFINE_list("splits", list(SPLITS), "The splits to read; others may be missing.")
_SHARD = flags.DEFINE_string("shard", "", "i/n: only part i of n, counted from 1.")
_ENGINE, _ADDRESS = define_engine()
_STRICT = flags.DEFINE_bool("strict", False, "Fail if an utterance has no such modality.")


def _check_flags() -> None:
    if not _INPUT.value:
        require_config(_CONFIG)
        if _COLUMNS.value:
            raise flags.Error("--columns is of --input; leave it out")
    elif _CONFIG.value is not None or flags.FLAGS["splits"].present:
        raise flags.Error("--input takes no --config and no --splits; leave them out")
    require(_CLIPS, _EXTRACTOR, _OUT)
    check_engine(_ENGINE, _ADDRESS)


def _extract() -> None:
    meld = {}
    if _INPUT.value:
        taken = Counter[str]()
        given = read_dialogues(Path(_INPUT.value), parse_columns(_COLUMNS.value))
        splits = {"input": [with_unique_ids(dialogue, taken) for dialogue in given]}
    else:
        if len(sources(_CONFIG.value)) > 1:
            raise InputError("config.data.root: several corpora; extract the features of each")
        if _CONFIG.value.data.format == "ecf":
            meld = read_meld_names(Path(_CONFIG.value.data.root).expanduser())
        splits = load_splits(_CONFIG.value, _SPLITS.value, labelled=False)
    utterances = [u for split in splits.values() for d in split for u in d.utterances]
    find_clips(Path(_CLIPS.value), utterances, meld)  # before a model is loaded, which takes long
    # Imported here, so that --help answers at once and a missing package is a one-line message.
    from rpcl_jax.extraction.extract import extract_table, parse_shard
    from rpcl_jax.extraction.extractors import load_extractor

    shard = parse_shard(_SHARD.value)
    if _ENGINE.value == "ray":
        from rpcl_jax.cluster.start import start_ray

        ray = start_ray(_ADDRESS.value)
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the GPUs are the workers'
    extractor = load_extractor(_EXTRACTOR.value, _MODEL.value, _REVISION.value)
    out = Path(_OUT.value)
    extract = None
    if _ENGINE.value == "ray":
        from rpcl_jax.cluster.extraction import extract_on_ray

        extract = extract_on_ray(ray, extractor.description)
    absent = extract_table(
        utterances,
        Path(_CLIPS.value),
        extractor,
        out,
        shard,
        _STRICT.value,
        meld=meld,
        extract=extract,
    )
    for identifier, reason in absent:
        logging.getLogger("rpcl_jax").warning(f"{identifier}: no {extractor.modality}: {reason}")
    if absent and _STRICT.value:
        raise InputError(f"{len(absent)} utterances have no {extractor.modality}")
    if shard is None:
        count = len(utterances) - len(absent)
        print(f"{out}: {count} of {len(utterances)} utterances")
    else:
        print(f"{out}: shard {_SHARD.value} is done; when all are, run the command without --shard")


if __name__ == "__main__":
    several = "the clips go to several machines by --engine=ray, or in parts by --shard"
    run_command("extract", _extract, _check_flags, distributed=several)
