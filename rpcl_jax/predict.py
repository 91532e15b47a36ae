"""Conversations nobody labelled in, emotion-cause pairs with confidences out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from rpcl_jax import workdir as run_folder
from rpcl_jax.data.features import FeatureTable
from rpcl_jax.data.pipeline import make_batches
from rpcl_jax.data.readers.semeval import parse_conversations, read_objects, with_pairs
from rpcl_jax.decode import decode_pairs, pair_emotions
from rpcl_jax.encoder import utterance_vectors
from rpcl_jax.errors import InputError
from rpcl_jax.evaluate import Score, score_split
from rpcl_jax.parallel import make_mesh, make_score, replicate


class Predictor:
    """A trained run, ready for new conversations.

    predictor = Predictor.from_workdir("runs/ecf/rpcl-t-seed42")
    for conversation in predictor(conversations):
        print(conversation["emotion-cause_pairs"], conversation["pair_confidences"])
    """

    def __init__(
        self, trained: run_folder.TrainedModel, threshold: float, mesh: Mesh, score: Score
    ):
        self._trained = trained
        self._threshold = threshold
        self._mesh = mesh
        self._score = score
        self._params = replicate(trained.params, mesh)

    @classmethod
    def from_workdir(cls, workdir: str | Path) -> "Predictor":
        """The best epoch of a finished run, with its validation threshold.

        Raises:
          InputError: no finished run there.
        """
        workdir = Path(workdir)
        trained = run_folder.load_trained(workdir)
        threshold = run_folder.read_json(workdir / "result.json")["threshold"]
        mesh = make_mesh()
        return cls(trained, threshold, mesh, make_score(trained.model, mesh))

    def __call__(
        self,
        conversations: Sequence[Mapping[str, Any]],
        tables: Mapping[str, FeatureTable] | None = None,
        where: str = "conversations",
    ) -> list[dict[str, Any]]:
        """The conversations with their pairs.

        Args:
          conversations: in the form of SemEval-2024 Task 3; labels, if any, are not looked at.
          tables: features of their utterances by modality, for a run that reads "audio" or
            "vision".
          where: what error messages call the conversations.

        Returns:
          A copy of each with "emotion-cause_pairs" ([["3_surprise", "1"], …], 1-based) and
          "pair_confidences". Utterances beyond the run's most utterances are in no pair.

        Raises:
          InputError: a conversation or a table is not as it should be.
        """
        dialogues = parse_conversations(conversations, where, labelled=False)
        tables = dict(tables or {})
        for modality, width in self._trained.feature_widths.items():
            if modality not in tables:
                raise InputError(
                    f"{where}: this run reads {modality} too; give the features of these "
                    "conversations (--features), or use a run with --config.modalities=t"
                )
            tables[modality].check_covers(dialogues, where)
            if tables[modality].dimension != width:
                raise InputError(
                    f"{tables[modality].path}: {tables[modality].dimension} numbers a row, the run "
                    f"was trained with {width}; extract {modality} as for training"
                )
        tables = {modality: tables[modality] for modality in self._trained.feature_widths}
        if not dialogues:
            return []
        if self._trained.frozen_encoder is not None:
            tables["text"] = utterance_vectors(
                self._trained.frozen_encoder, dialogues, self._trained.config, self._mesh
            )
        batches = make_batches(
            dialogues, self._trained.tokenizer, tables, self._trained.config, self._mesh.size
        )
        results = []
        scored = score_split(self._score, self._params, batches, self._mesh)
        for conversation, s in zip(conversations, scored, strict=True):
            pairs = decode_pairs(s.pair_confidence, s.candidate_mask, self._threshold)
            emotions = pair_emotions(s.emotion_probabilities, pairs)
            confidences = [float(s.pair_confidence[pair]) for pair in pairs]
            results.append(with_pairs(conversation, pairs, emotions, confidences))
        return results


def predict_file(workdir: Path, source: Path, target: Path, features: Path | None) -> int:
    """Predicts the conversations of the file `source` into the file `target`.

    Args:
      workdir: folder of a finished run.
      source: JSON as SemEval-2024 Task 3 has it, a list or one object per line.
      target: written as a JSON list, replaced if it is there.
      features: folder with the tables `audio` and `vision` of these conversations, or None.

    Returns:
      The number of pairs found.

    Raises:
      InputError: a file is not as it should be.
    """
    conversations = read_objects(source)
    predictor = Predictor.from_workdir(workdir)
    tables = (
        {
            folder.name: FeatureTable.load(folder)
            for folder in (features / "audio", features / "vision")
            if folder.is_dir()
        }
        if features
        else {}
    )
    results = predictor(conversations, tables, where=str(source))
    run_folder.write_json(target, results)
    return sum(len(result["emotion-cause_pairs"]) for result in results)
