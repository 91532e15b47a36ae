"""Predicts the emotion-cause pairs of unlabelled conversations, with confidences."""

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rpcl_jax.data.dialogue import Dialogue
from rpcl_jax.data.features import FeatureTable, check_same_extractor
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.decode import decode_pairs, pair_emotions
from rpcl_jax.files import read_json, write_json
from rpcl_jax.readers import conversations as our_format
from rpcl_jax.readers import semeval
from rpcl_jax.readers.objects import read_objects
from rpcl_jax.run.workdir import TrainedRun


class Predictor:
    """A trained run, ready for new conversations.

    predictor = Predictor.from_workdir("runs/ecf_minilm/rpcl-t-seed42")
    for conversation in predictor(conversations):
        print(conversation["emotion-cause_pairs"], conversation["pair_confidences"])
    """

    def __init__(self, run: TrainedRun, threshold: float):
        self._run = run
        self._threshold = threshold

    @classmethod
    def from_workdir(cls, workdir: str | Path) -> "Predictor":
        """Loads the best epoch of a finished run, with its validation threshold.

        Raises:
          InputError: there is no finished run.
        """
        workdir = Path(workdir)
        run = TrainedRun(workdir)
        if not (workdir / "result.json").exists():
            raise InputError(
                f"{workdir}: the run is not finished; run its training command again to finish it"
            )
        return cls(run, read_json(workdir / "result.json")["threshold"])

    def __call__(
        self,
        conversations: Sequence[Mapping[str, Any]],
        tables: Mapping[str, FeatureTable] | None = None,
        where: str = "conversations",
    ) -> list[dict[str, Any]]:
        """Returns the conversations with their pairs.

        Args:
          conversations: all in the format of SemEval-2024 Task 3, or all in that of
            `rpcl_jax.readers.conversations`. Labels, if any, are ignored.
          tables: features of their utterances by modality, for a run that reads "audio" or
            "vision".
          where: what error messages call the conversations.

        Returns:
          A copy of each with its pairs, 1-based, and "pair_confidences": SemEval's format has
          "emotion-cause_pairs" ([["3_surprise", "1"], …]), ours "pairs" ([[3, 1], …]) and
          "pair_emotions". Utterances after the first `config.data.max_utterances` are in no pair.

        Raises:
          InputError: a conversation is malformed, or a table is missing or not like the run's own.
        """
        if isinstance(conversations, str) or not isinstance(conversations, Sequence):
            raise InputError(
                f"{where}: must be a list of conversations, not of type "
                f"{type(conversations).__name__}; put a single conversation into a list"
            )
        if not conversations:
            return []
        dialogues, with_pairs = _parse(conversations, where)
        tables = dict(tables or {})
        read = self._run.feature_tables
        for modality in read:
            if modality not in tables:
                raise InputError(
                    f"{where}: this run reads {modality} too; give the features of these "
                    "conversations (--features) or their clips (--clips), or use a run with "
                    "--config.modalities=t"
                )
            tables[modality].check_covers(dialogues, where)
        scored = self._run.score(dialogues, {modality: tables[modality] for modality in read})
        results = []
        for conversation, s in zip(conversations, scored, strict=True):
            pairs = decode_pairs(s.pair_confidence, s.candidate_mask, self._threshold)
            emotions = pair_emotions(s.emotion_probabilities, pairs, self._run.emotions)
            confidences = [float(s.pair_confidence[pair]) for pair in pairs]
            results.append(with_pairs(conversation, pairs, emotions, confidences))
        return results


def extract_tables(
    feature_tables: Mapping[str, Mapping[str, Any]],
    conversations: Sequence[Mapping[str, Any]],
    clips: Path,
    folder: Path,
    where: str,
) -> dict[str, FeatureTable]:
    """Extracts the features that a run reads from the clips of new conversations.

    Args:
      feature_tables: of the run, from its `model.json`.
      conversations: as `Predictor` takes them; `rpcl_jax.extraction.clips.find_clip` says how their
        clips are found.
      clips: folder of the audio and video files.
      folder: where the tables are written.
      where: what error messages call the conversations.

    Raises:
      InputError: PyTorch or an extractor is missing, or its revision is not the one that the run
        was trained with.
    """
    # Imported here because they need PyTorch, which nothing else does.
    from rpcl_jax.extraction.extract import extract_table
    from rpcl_jax.extraction.extractors import EXTRACTORS, load_extractor

    dialogues, _ = _parse(conversations, where)
    utterances = [utterance for dialogue in dialogues for utterance in dialogue.utterances]
    tables = {}
    for modality, trained_with in feature_tables.items():
        if not {"extractor", "revision"} <= trained_with.keys():
            raise InputError(
                f"--clips: the table of {modality} that the run was trained with does not say its "
                "extractor and revision; give such features by --features"
            )
        if trained_with["extractor"] not in EXTRACTORS:
            raise InputError(
                f"--clips: the run was trained with {modality} of {trained_with['extractor']!r}"
                ", which is not one of our extractors; give such features by --features"
            )
        extractor = load_extractor(
            trained_with["extractor"], trained_with.get("model", ""), trained_with["revision"]
        )
        check_same_extractor(extractor.description, trained_with, extractor.description["model"])
        absent = extract_table(utterances, clips, extractor, folder / modality)
        for utterance, reason in absent:
            print(f"{utterance}: no {modality}: {reason}", file=sys.stderr)
        tables[modality] = FeatureTable.load(folder / modality)
    return tables


def _parse(
    conversations: Sequence[Mapping[str, Any]], where: str
) -> tuple[list[Dialogue], Callable[..., dict[str, Any]]]:
    """Returns the dialogues, and the function that adds pairs to conversations of their format."""
    if any(our_format.is_ours(conversation) for conversation in conversations):
        return our_format.parse_objects(conversations, where, False), our_format.with_pairs
    return semeval.parse_conversations(conversations, where, False), semeval.with_pairs


def predict_file(
    workdir: Path,
    source: Path,
    target: Path,
    features: Path | None = None,
    clips: Path | None = None,
) -> int:
    """Predicts the conversations of the file `source` into the file `target`.

    Args:
      workdir: folder of a finished run.
      source: JSON, a list or one object per line, in either form that `Predictor` takes.
      target: JSON list to write; replaced if it exists.
      features: folder with the tables `audio` and `vision` of these conversations, or None.
      clips: folder of their clips, from which the features are extracted, or None.

    Returns:
      The number of pairs found.

    Raises:
      InputError: a file is missing or malformed.
    """
    conversations = read_objects(source)
    target.parent.mkdir(parents=True, exist_ok=True)  # fail early
    if target.is_dir():
        raise InputError(f"{target}: is a folder; give the name of a file")
    with tempfile.TemporaryDirectory() as folder:
        tables = {}
        read = read_json(workdir / "model.json")["feature_tables"]
        # Before the model is loaded: on a GPU, JAX takes most of the memory.
        if clips and conversations:
            tables = extract_tables(read, conversations, clips, Path(folder), str(source))
        elif features:
            tables = {modality: FeatureTable.load(features / modality) for modality in read}
        predictor = Predictor.from_workdir(workdir)
        results = predictor(conversations, tables, where=str(source))
    write_json(target, results)
    return sum(len(result["pair_confidences"]) for result in results)
