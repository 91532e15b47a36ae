"""The folder of a run, and a trained run ready to score dialogues.

config.json          the run's config; a run with another config is refused here
model.json           sizes of the text encoder, emotion classes, and the extractors of its features
tokenizer/           the text encoder's tokenizer
checkpoints/         last and best epoch
metrics.jsonl        the log; TensorBoard's events are beside it
predictions/         {dev,test}.json the pairs, {dev,test}.npz every confidence
result.json          present once the run is finished
lock                 held by the process that trains here
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rpcl_jax.batching.batch import Batch
from rpcl_jax.batching.pipeline import Batches
from rpcl_jax.batching.stream import stream_batches
from rpcl_jax.data.dialogue import Dialogue
from rpcl_jax.data.features import FeatureTable, absent_table
from rpcl_jax.errors import InputError, file_errors
from rpcl_jax.evaluation.inference import Scores, make_score, score_split
from rpcl_jax.evaluation.scores_file import ScoredDialogue
from rpcl_jax.files import locked, read_json, write_json
from rpcl_jax.models.adapters import combine
from rpcl_jax.models.pretrained import load_tokenizer
from rpcl_jax.models.text_encoder import ENCODER, TextEncoderConfig
from rpcl_jax.readers.corpus import SYNTHETIC, Corpus, load_corpus
from rpcl_jax.run.compilation import Compiled
from rpcl_jax.run.config import build_model, flatten, read_config, to_json
from rpcl_jax.run.hosts import agree, notes_of_first_process
from rpcl_jax.run.text_vectors import (
    LoadedEncoder,
    absolute_name,
    corpus_batches,
    describe_data,
    frozen_digest,
    load_trained_encoder,
)
from rpcl_jax.training.checkpoint import Checkpoints
from rpcl_jax.training.mesh import fetch, first_process, make_mesh, own_places, put_batch, replicate


def run_name(config: ConfigDict) -> str:
    """`<objective>-<modalities>[-<backbone>]-seed<seed>`; the default backbone is left out."""
    backbone = config.model.backbone
    parts = [config.objective, config.modalities, "" if backbone == "transformer" else backbone]
    return "-".join([*filter(None, parts), f"seed{config.seed}"])


def check_owner(workdir: Path, config: ConfigDict) -> None:
    """Raises InputError where `workdir` belongs to another config or holds something else."""
    path = workdir / "config.json"
    if path.exists():
        old, new = flatten(to_json(read_config(path))), flatten(to_json(config))
        differences = [
            f"{field}: {old[field]!r} there, {new[field]!r} asked for"
            for field in sorted(new.keys() - {"devices"})  # a run may continue on others
            if old[field] != new[field]
        ]
        if differences:
            raise InputError(
                f"{path}: this folder belongs to a run with another config "
                f"({'; '.join(differences[:3])}); choose another --workdir"
            )
    elif workdir.exists() and any(path.name != "lock" for path in workdir.iterdir()):
        raise InputError(
            f"{workdir}: not empty, and not the folder of a run; choose another --workdir"
        )


def locked_run(workdir: Path) -> AbstractContextManager[int]:
    """Holds the lock of a run's or a grid's folder; see `rpcl_jax.files.locked`."""
    return locked(
        workdir / "lock", f"{workdir}: another process is training in it; wait for it, or stop it"
    )


def save_description(
    workdir: Path,
    config: ConfigDict,
    encoder: LoadedEncoder,
    corpus: Corpus,
    begun: bool,
) -> None:
    """Makes `workdir` this config's and writes what `TrainedRun` needs beside checkpoints.

    Args:
      workdir: the run's folder.
      config: of the run.
      encoder: of the run.
      corpus: what it is trained on.
      begun: the run has a checkpoint, so its features, classes and encoder must not change.

    Raises:
      InputError: the run was begun with other features, emotions or another frozen encoder.
      OSError: a file cannot be written.
    """
    path = workdir / "model.json"
    digest = frozen_digest(encoder, config)
    if begun:
        described = read_json(path)
        _check_same_extractors(corpus.tables, described)
        if stored_emotions(workdir) != corpus.emotions:
            raise InputError(
                f"{workdir}: the emotions of its training split have changed since it was begun; "
                "restore them or choose another --workdir"
            )
        _check_same_encoder(digest, described, workdir, config)
        if encoder_sizes(described, path) != encoder.config:
            raise InputError(
                f"{workdir}: the sizes of its text encoder or the words of its training split have "
                "changed since it was begun; restore them or choose another --workdir"
            )
    if not first_process():
        return
    write_json(workdir / "config.json", to_json(config))
    with file_errors(workdir / "tokenizer"):
        encoder.tokenizer.save(workdir / "tokenizer")
    description: dict[str, Any] = {
        "encoder": dataclasses.asdict(encoder.config),
        "emotions": corpus.emotions,
        "feature_tables": {
            name: {**table.description, "dimension": table.dimension}
            for name, table in corpus.tables.items()
        },
        "folder": str(Path.cwd()),  # from which relative paths in the config start
        "frozen_encoder": digest,
        "pretrained": absolute_name(config),
    }
    write_json(path, description)


def stored_emotions(workdir: Path) -> tuple[str, ...]:
    """Returns the names of a run's emotion classes.

    Raises:
      InputError: the folder has no `model.json`.
    """
    return tuple(read_json(workdir / "model.json", {"emotions": list})["emotions"])


def encoder_sizes(described: Mapping[str, Any], path: Path) -> TextEncoderConfig:
    """Returns the sizes of the text encoder that `model.json`, at `path`, describes.

    Raises:
      InputError: another version of this package wrote them.
    """
    try:
        return TextEncoderConfig(**described["encoder"])
    except TypeError as error:
        raise InputError(
            f"{path}: describes no text encoder of this version of rpcl_jax ({error}); update "
            "rpcl_jax if a newer version wrote it, or train the run again"
        ) from error


def with_data(workdir: Path, config: ConfigDict) -> ConfigDict:
    """Returns a run's config with paths that lead to its data from the current folder too.

    Raises:
      InputError: its conversations are gone.
    """
    start = Path(read_json(workdir / "model.json").get("folder", ""))
    found = config.copy_and_resolve_references()
    for field in ("root", "audio", "vision"):
        path = config.data[field]
        if path and not Path(path).exists() and (start / path).exists():
            found.data[field] = str(start / path)
    if config.data.format != SYNTHETIC and not Path(found.data.root).exists():
        raise InputError(
            f"{workdir}: its conversations are not found in {config.data.root}; put them back "
            "there, or start the command in the folder where the run was trained"
        )
    return found


def _check_same_extractors(
    tables: Mapping[str, FeatureTable], described: Mapping[str, Any]
) -> None:
    for modality, table in tables.items():
        table.check_same_extractor(described["feature_tables"][modality])


def _check_same_encoder(
    digest: str | None, described: Mapping[str, Any], workdir: Path, config: ConfigDict
) -> None:
    if digest != described.get("frozen_encoder"):
        raise InputError(
            f"{config.text.pretrained}: not the encoder that {workdir} was trained with; "
            "restore that one"
        )


class TrainedRun:
    """A run's model at its best epoch, ready to score dialogues on all devices.

    Attributes:
      config: of the run.
      emotions: names of the emotion classes.
      feature_tables: `table.json` of the features the run was trained with, by modality.
      encoder: its text encoder, with parameters if it is frozen.
      model, params: with the parameters of the best epoch, on the devices of `mesh`.
      params_with_encoder: the same, and those of a frozen encoder.
    """

    def __init__(
        self,
        config: ConfigDict,
        emotions: tuple[str, ...],
        feature_tables: dict[str, dict[str, Any]],
        encoder: LoadedEncoder,
        params: dict[str, Any],
        mesh: Mesh,
        workdir: Path | None = None,
    ):
        """Takes what `from_workdir` and `rpcl_jax.run.export.load_exported` load.

        `encoder` has parameters if it is frozen; else they are in `params`, on all of `mesh`. A
        run without a folder of its own, `workdir`, has no splits.
        """
        self.config, self.emotions, self.feature_tables = config, emotions, feature_tables
        self.encoder, self.params, self.mesh = encoder, params, mesh
        self._workdir = workdir
        self.model = build_model(config, encoder.config, emotions)
        self._score = Compiled(make_score(self.model, self.mesh), "the scoring function")
        self._score_words, self.params_with_encoder = self._score, self.params
        if not self.config.text.finetune:
            # A table of vectors by utterance id would be as long as a stream.
            model = self.model.clone(dtype=jnp.float32)
            self._score_words = Compiled(make_score(model, self.mesh), "the scoring function")
            frozen = replicate(encoder.params, self.mesh)
            self.params_with_encoder = {**self.params, ENCODER: frozen}

    @classmethod
    def from_workdir(cls, workdir: Path, devices: int | None = None) -> "TrainedRun":
        """Loads the run onto a number of devices, or all.

        Raises:
          InputError: no run there, none with a checkpoint yet, or its frozen encoder has changed.
        """
        config = read_config(workdir / "config.json")
        mesh = make_mesh(devices)
        checkpoints = Checkpoints(workdir)
        last = checkpoints.last()
        agree("the folder of the run", lambda: [to_json(config), last])
        if last is None:
            raise InputError(f"{workdir}: no checkpoint yet; train the run first")
        described = read_json(workdir / "model.json")
        sizes = encoder_sizes(described, workdir / "model.json")
        encoder = load_trained_encoder(
            config,
            sizes,
            load_tokenizer(workdir / "tokenizer", sizes.vocab_size),
            described.get("pretrained", config.text.pretrained),
        )
        _check_same_encoder(frozen_digest(encoder, config), described, workdir, config)
        best = checkpoints.progress(last)["best_epoch"]
        params = checkpoints.restore_params(best, mesh)
        if config.text.lora_rank:
            frozen = replicate({ENCODER: encoder.params}, mesh)
            params, encoder = combine(params, frozen), encoder._replace(params=None)
        emotions = stored_emotions(workdir)
        return cls(config, emotions, described["feature_tables"], encoder, params, mesh, workdir)

    @cached_property
    def splits(self) -> dict[str, Batches]:
        """The batches of the run's own splits; see `splits_with`."""
        return self.splits_with(self.feature_tables)

    def splits_with(self, modalities: Iterable[str]) -> dict[str, Batches]:
        """Returns the batches of the run's own splits.

        Args:
          modalities: any of "audio" and "vision"; what else the run reads is absent.

        Raises:
          InputError: its data are no longer there, or not the same kind.
        """
        assert self._workdir is not None
        config = with_data(self._workdir, self.config)
        with notes_of_first_process():
            corpus = load_corpus(config, self.emotions, first_process())
        _check_same_extractors(corpus.tables, {"feature_tables": self.feature_tables})
        agree("the data", lambda: describe_data(corpus, self.encoder, config))
        dialogues = [dialogue for split in corpus.splits.values() for dialogue in split]
        given = {modality: corpus.tables[modality] for modality in modalities}
        corpus = corpus._replace(tables=self._complete(given, dialogues))
        return corpus_batches(self.encoder, corpus, self.config, self.mesh)

    def _complete(
        self, tables: Mapping[str, FeatureTable], dialogues: Sequence[Dialogue]
    ) -> dict[str, FeatureTable]:
        return {
            modality: tables.get(modality) or absent_table(description, dialogues)
            for modality, description in self.feature_tables.items()
        }

    def score(self, batches: Batches) -> list[ScoredDialogue]:
        """Returns the scores of one of the run's own splits."""
        return score_split(self._score, self.params, batches, self.mesh)

    def prepare(
        self, dialogues: Sequence[Dialogue], tables: Mapping[str, FeatureTable]
    ) -> list[tuple[np.ndarray, Batch]]:
        """Returns the batches of new dialogues, a chunk of a stream; see `stream_batches`.

        Args:
          dialogues: none longer than `config.data.max_utterances`.
          tables: their features, by modality; of what is not there, every utterance gets the
            vector for "absent".

        Raises:
          InputError: the tables are from another extractor than the run's.
        """
        _check_same_extractors(tables, {"feature_tables": self.feature_tables})
        return stream_batches(
            dialogues,
            self.encoder.tokenizer,
            self._complete(tables, dialogues),
            self.config,
            self.mesh.size,
            self.emotions,
            own_places(self.mesh),
        )

    def score_prepared(
        self, batches: Sequence[tuple[np.ndarray, Batch]]
    ) -> Callable[[], dict[int, Scores]]:
        """Sends batches of `prepare` to the devices, and returns a function that waits for them.

        That function returns the scores by index of the dialogue, with padding.
        """
        running = [
            (places, self._score_words(self.params_with_encoder, put_batch(batch, self.mesh)))
            for places, batch in batches
        ]

        def wait() -> dict[int, Scores]:
            return {
                int(index): Scores(*(array[place] for array in arrays))
                for places, scores in running
                for arrays in [fetch(scores)]
                for place, index in enumerate(places)
                if index >= 0
            }

        return wait
