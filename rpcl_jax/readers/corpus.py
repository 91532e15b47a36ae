"""Loads the splits and feature tables that a config names, in any format."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from rpcl_jax.data import synthetic
from rpcl_jax.data.dialogue import (
    BINARY,
    EMOTIONAL,
    EMOTIONS,
    NEUTRAL,
    Dialogue,
    is_emotion_name,
    of_corpus,
)
from rpcl_jax.data.features import MODALITIES, FeatureTable
from rpcl_jax.errors import Faults, InputError
from rpcl_jax.readers import conversations, ecf, mec4, mecad, reccon
from rpcl_jax.readers.benchmark_files import SplitMissing, emotion_name
from rpcl_jax.readers.ecf_features import read_official
from rpcl_jax.readers.transcripts import read_dialogues

_LOG = logging.getLogger(__name__)
SPLITS = ("train", "dev", "test")
# Each reader maps a folder and the name of a split to the dialogues of the split.
READERS: Mapping[str, Callable[[Path, str], list[Dialogue]]] = {
    "ecf": ecf.read_split,
    "mecad": mecad.read_split,
    "mec4": mec4.read_split,
    "reccon": reccon.read_split,
    "conversations": conversations.read_split,
}

SYNTHETIC = "synthetic"  # generated in memory
FORMATS = (*READERS, SYNTHETIC)


class Source(NamedTuple):
    """One corpus of a config: its name, the reader of its format and its folder."""

    name: str
    format: str
    root: Path


def sources(config: ConfigDict) -> list[Source]:
    """Returns the corpora that `config.data` names.

    `config.data.root` may be several folders with commas between them. `format` and `name` then
    have as many parts; or one format is that of all, and without names, the folders have theirs.
    """
    data = config.data
    roots, formats, names = (text.split(",") for text in (data.root, data.format, data.name))
    if len(formats) not in (1, len(roots)) or (len(roots) > 1 and SYNTHETIC in formats):
        raise InputError(
            f"config.data.format: {data.format!r} is not one format for all of the {len(roots)} "
            "folders of config.data.root, or one for each"
        )
    if len(roots) == 1:
        names = [data.name]
    elif not data.name:
        names = [Path(root).name for root in roots]
    elif len(names) != len(roots):
        names = []
    if len(roots) > 1 and (len({*names}) < len(roots) or any(not n or ":" in n for n in names)):
        raise InputError(
            f"config.data.name: {','.join(names) or data.name} does not tell the corpora apart; "
            f"give {len(roots)} different names with commas between them, without colons"
        )
    formats *= len(roots) // len(formats)
    folders = (Path(root).expanduser() for root in roots)
    return [Source(n, f, r) for n, f, r in zip(names, formats, folders, strict=True)]


def corpus_names(config: ConfigDict) -> tuple[str, ...]:
    """Returns the names of the corpora of a config that has several; () of one.

    The ids of their dialogues and utterances begin with the name and a colon.
    """
    if not config.data.root:  # of a model without its data
        return ()
    found = sources(config)
    return tuple(source.name for source in found) if len(found) > 1 else ()


class Corpus(NamedTuple):
    """Dialogues by split, feature tables by modality, and names of the emotion classes.

    `names` are those of the corpora, if the dialogues are of several.
    """

    splits: dict[str, list[Dialogue]]
    tables: dict[str, FeatureTable]
    emotions: tuple[str, ...]
    names: tuple[str, ...] = ()


def load_corpus(
    config: ConfigDict, emotions: Sequence[str] = (), check_values: bool = True
) -> Corpus:
    """Loads the splits that `config.data` names and the tables that `config.modalities` requires.

    Args:
      emotions: names of the run's emotion classes, if they have been decided.
      check_values: of the tables, see `FeatureTable.load`.
    """
    wanted = [MODALITIES[letter] for letter in "av" if letter in config.modalities]
    if config.data.format == SYNTHETIC:
        splits, tables = _generate(config)
    else:
        splits = load_splits(config)
    classes = tuple(emotions) or emotion_classes(config, splits["train"])
    splits = with_classes(splits, classes, config)
    if config.data.format == SYNTHETIC:
        return Corpus(splits, {modality: tables[modality] for modality in wanted}, classes)
    tables = {m: load_table(config.data[m], m, check_values) for m in wanted}
    for modality, table in tables.items():
        if not table.row_of_id:
            raise InputError(f"{table.path}: no utterance has {modality}; train without it")
        for split, dialogues in splits.items():
            table.check_covers(dialogues, split)
    return Corpus(splits, tables, classes, corpus_names(config))


def load_splits(
    config: ConfigDict, names: Sequence[str] = SPLITS, labelled: bool = True
) -> dict[str, list[Dialogue]]:
    """Loads the dialogues that `config.data` names, by split.

    Args:
      names: the splits to load; the files of the others need not exist.
      labelled: whether conversations in our own format must be labelled. If not, their labels are
        not read.
    """
    for name in names:
        if name not in SPLITS:
            raise InputError(f"{name!r} is not a split; the splits are {', '.join(SPLITS)}")
    if config.data.format == SYNTHETIC:
        generated = _generate(config)[0]
        return {name: generated[name] for name in names}
    splits: dict[str, list[Dialogue]] = {name: [] for name in names}
    faults = Faults()
    found = sources(config)
    for source in found:
        for split in names:
            try:
                if not labelled and source.format == "conversations":
                    dialogues = read_dialogues(source.root / f"{split}.jsonl")
                else:
                    dialogues = READERS[source.format](source.root, split)
            except InputError as error:
                faults.messages += error.args
                if isinstance(error, SplitMissing) and split == names[0]:
                    break  # it is another folder, and the others are missing too
            else:
                if len(found) > 1:
                    dialogues = [of_corpus(dialogue, source.name) for dialogue in dialogues]
                splits[split] += dialogues
    faults.check()
    return splits


def load_table(path: str, modality: str, check_values: bool = True) -> FeatureTable:
    """Loads the feature table at `path`: a folder, or one of ECF's official `.npy` files."""
    if not path:
        raise InputError(
            f"config.data.{modality}: no feature table is named; make one with "
            "`rpcl extract`, or train on text alone with --config.modalities=t"
        )
    file = Path(path).expanduser()
    if file.suffix == ".npy":
        return read_official(file, file.with_name("video_id_mapping.npy"), check_values)
    return FeatureTable.load(file, check_values)


def _generate(config: ConfigDict) -> tuple[dict[str, list[Dialogue]], dict[str, FeatureTable]]:
    return synthetic.generate_corpus(config.data.seed, sizes=config.data.sizes.to_dict())


def named_emotions(config: ConfigDict) -> tuple[str, ...]:
    """Returns the emotion classes that `config.data.emotions` names; none for "auto"."""
    choice = config.data.emotions
    if choice == "auto":
        return ()
    if choice == "binary":
        return BINARY
    names = [emotion_name(name) for name in choice.split(",")]
    emotions = [name for name in names if name != NEUTRAL]
    valid = "," in choice and all(map(is_emotion_name, names)) and emotions
    if not valid or len(set(names)) < len(names):
        raise InputError(
            f"config.data.emotions: {choice!r} is no list of emotions; it may be auto, binary or "
            "different names with commas between them, such as neutral,joy,sadness"
        )
    return (NEUTRAL, *emotions)


def emotion_classes(config: ConfigDict, train: Sequence[Dialogue]) -> tuple[str, ...]:
    """Returns the names of the emotion classes: neutral, then those of the config or of `train`.

    With "auto", the emotions of the training split are sorted by name, which is ECF's order.
    """
    named = named_emotions(config)
    if named:
        return named
    counts = Counter(str(u.emotion) for dialogue in train for u in dialogue.utterances)
    emotions = sorted(counts.keys() - {NEUTRAL})
    if not emotions:
        raise InputError("the training split has no emotion but neutral; check its labels")
    if EMOTIONAL in emotions and len(emotions) > 1:
        raise InputError(
            f"the training split has {counts[EMOTIONAL]} emotions without a category beside "
            f"{', '.join(e for e in emotions if e != EMOTIONAL)}; train with "
            "--config.data.emotions=binary"
        )
    unusual = [f"{e} ({counts[e]})" for e in emotions if e not in (*EMOTIONS, EMOTIONAL)]
    if unusual:
        _LOG.warning(f"emotions that are classes of their own: {', '.join(unusual)}")
    return (NEUTRAL, *emotions)


def with_classes(
    splits: Mapping[str, list[Dialogue]], classes: Sequence[str], config: ConfigDict
) -> dict[str, list[Dialogue]]:
    """Returns the splits without emotions that are no class.

    `config.data.unknown_emotion` says what is done about them: "refuse", "neutral" (the utterance
    counts as neutral; its pairs stay) or "skip" (its conversation is left out). Both are logged.

    Raises:
      InputError: there are such emotions and they are refused, or nothing is left of a split.
    """
    known = {None, *classes}
    found: dict[tuple[str, str], list[str]] = {}  # places, by split and emotion
    for split, dialogues in splits.items():
        for dialogue in dialogues:
            for t, utterance in enumerate(dialogue.utterances, 1):
                if utterance.emotion is not None and utterance.emotion not in known:
                    places = found.setdefault((split, utterance.emotion), [])
                    places.append(f"conversation {dialogue.id} utterance {t}")
    if tuple(classes) == BINARY or not found:
        return dict(splits)
    policy = config.data.unknown_emotion
    if policy == "refuse":
        raise InputError(
            *(
                f"{split}: the emotion {emotion!r} is not one of the classes; "
                f"{len(places)} utterances have it "
                f"({', '.join(places[:3])}{', …' if len(places) > 3 else ''}); correct "
                "them, or choose --config.data.unknown_emotion=neutral or skip, or "
                "--config.data.emotions=binary"
                for (split, emotion), places in found.items()
            )
        )
    for (split, emotion), places in found.items():
        what = "taken as neutral" if policy == "neutral" else "so their conversations are skipped"
        _LOG.warning(
            f"{split}: the emotion {emotion!r} is not one of the classes; "
            f"{len(places)} utterances have it, {what}"
        )
    kept = {}
    for split, dialogues in splits.items():
        if policy == "neutral":
            kept[split] = [_with_neutral(dialogue, known) for dialogue in dialogues]
        else:
            kept[split] = [d for d in dialogues if all(u.emotion in known for u in d.utterances)]
        if len(kept[split]) < len(dialogues):
            left = len(dialogues) - len(kept[split])
            _LOG.warning(f"{split}: {left} conversations are skipped")
        if not kept[split]:
            raise InputError(f"{split}: no conversation is left; choose other emotions")
    return kept


def _with_neutral(dialogue: Dialogue, known: set[str | None]) -> Dialogue:
    utterances = (
        u if u.emotion in known else replace(u, emotion=NEUTRAL) for u in dialogue.utterances
    )
    return replace(dialogue, utterances=tuple(utterances))
