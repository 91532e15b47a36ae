"""The one form of a trained model: the folder of a run, an exported folder, or a name on the hub.

config.json          what it is: emotions, features, sizes of the text encoder, the run's config
model.safetensors    every parameter, except those of an encoder that config.json only names
tokenizer.json, …    the text encoder's tokenizer

Training keeps the best epoch so far in such a folder, with the epoch and the threshold in the
metadata of model.safetensors, so that they never disagree with the parameters. An exported folder
has the threshold in config.json.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rpcl_jax.batching.batch import Batch
from rpcl_jax.batching.language import PieceCounts
from rpcl_jax.batching.pipeline import Batches
from rpcl_jax.batching.stream import stream_batches
from rpcl_jax.batching.tokenizer import WordPieces
from rpcl_jax.data.dialogue import NEUTRAL, Dialogue, Utterance
from rpcl_jax.data.features import MODALITIES, FeatureTable, absent_table
from rpcl_jax.errors import InputError, file_errors
from rpcl_jax.evaluation.inference import Scores, make_score, score_split
from rpcl_jax.evaluation.metrics import PREDICT_NOTHING
from rpcl_jax.evaluation.scores_file import ScoredDialogue
from rpcl_jax.files import atomic_write, check_not_pointer, read_json, require_fields, write_json
from rpcl_jax.models.adapters import combine
from rpcl_jax.models.ecpe import PairExtractor
from rpcl_jax.models.pretrained import (
    WEIGHTS,
    hub_name,
    load_pretrained,
    load_tokenizer,
    resolve_pretrained,
)
from rpcl_jax.models.text_encoder import ENCODER, TextEncoderConfig
from rpcl_jax.run.base_config import flatten
from rpcl_jax.run.compilation import Compiled, remembered
from rpcl_jax.run.config import build_model, parse_config
from rpcl_jax.run.hosts import agree
from rpcl_jax.run.text_encoder import LoadedEncoder, check_positions, encoder_digest, is_frozen
from rpcl_jax.training.mesh import all_gather, local_device_indices, make_mesh, put_batch, replicate

LIBRARY = "rpcl_jax"
# The model that comes with the package, and what it is called.
PACKAGED, PACKAGED_NAME = Path(__file__).parents[1] / "pretrained", "rpcl_jax/pretrained"
LAYOUT = 1  # increment it when older versions of this package cannot read the folder
_SIZES = ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size")
_FIELDS = {
    **{"layout": int, "emotions": list, "feature_tables": dict},
    **{f"encoder.{size}": int for size in (*_SIZES, "max_positions")},
    **{"run": dict, "run.objective": str, "run.data": dict, "run.rpcl": dict},
}
# Fields of a config that may change while a run is trained: most say where things are.
_MAY_CHANGE = (
    "checkpoint_minutes",
    "init",
    "data.root",
    "data.audio",
    "data.vision",
    "text.cache",
    "text.pretrained",
    "devices",
)
_AGAIN = "get the folder again, or train or export the run again"


def model_folder(model: str | Path, revision: str | None = None) -> Path:
    """Returns the folder of a model: PACKAGED_NAME, a folder or a name on the hub."""
    if str(model) == PACKAGED_NAME and revision is None:
        return PACKAGED
    return resolve_pretrained(model, revision)


def read_description(folder: Path) -> dict[str, Any]:
    """Returns the `config.json` of a run or of an exported folder.

    Raises InputError if it is missing, damaged, of something else or of another version.
    """
    path = folder / "config.json"
    described = read_json(path)
    if described.get("library_name") != LIBRARY:
        raise InputError(
            f"{path}: not of a model of this version of rpcl_jax; if an older version wrote it, "
            "train the run again"
        )
    if isinstance(described.get("layout"), int) and described["layout"] > LAYOUT:
        raise InputError(f"{path}: written by a newer version of rpcl_jax; update it")
    require_fields(described, _FIELDS, str(path))
    return described


def check_finished(folder: Path) -> None:
    """Raises InputError if a model folder is that of a run that is not finished."""
    if (folder / "checkpoints").is_dir() and not (folder / "result.json").exists():
        raise InputError(
            f"{folder}: the run is not finished; run its training command again to finish it"
        )


def by_name(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested parameters by names such as "pair_head.bias"."""
    return flatten_dict(dict(params), sep=".")


def save_model(
    folder: Path,
    described: Mapping[str, Any],
    tokenizer: WordPieces,
    params: Mapping[str, Any] | None = None,
) -> None:
    """Writes a model folder; training writes the parameters later, by `save_parameters`."""
    write_json(folder / "config.json", described)
    with file_errors(folder / "tokenizer.json"):
        tokenizer.save(folder)
    if params is not None:
        save_parameters(folder, params)


def save_parameters(folder: Path, params: Mapping[str, Any], **facts: object) -> None:
    """Writes the parameters of a model folder, whole or not at all, with facts and whose they are.

    The facts are one entry of JSON, because safetensors writes several in any order.
    """
    tensors = by_name(jax.device_get(params))
    described = read_description(folder)
    facts = facts | {"config": config_digest(described["run"], described["emotions"])}
    with atomic_write(folder / WEIGHTS) as file:
        file.write(save(tensors, metadata={LIBRARY: json.dumps(facts)}))


def config_digest(run: Mapping[str, Any], emotions: Sequence[str]) -> str:
    """Tells models apart whose parameters have the same names and shapes.

    `run` is a config as `to_json` returns it.
    """
    fields = {field: value for field, value in flatten(run).items() if field not in _MAY_CHANGE}
    spelled = json.dumps([fields, list(emotions)], sort_keys=True)
    return hashlib.sha256(spelled.encode()).hexdigest()[:16]


def read_parameters(
    path: Path, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the parameters, nested, and the facts of a file.

    Raises InputError unless it has exactly these names and `shapes`, in float32.
    """
    check_not_pointer(path)
    try:
        with safe_open(path, framework="numpy") as opened:
            names = opened.keys()  # `opened` itself cannot be iterated
            tensors = {name: opened.get_tensor(name) for name in names}
            facts = json.loads((opened.metadata() or {}).get(LIBRARY, "{}"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: not found; {_AGAIN}") from error
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{path}: unreadable ({error}); {_AGAIN}") from error
    problems = [f"{name} is missing" for name in shapes if name not in tensors]
    for name, tensor in tensors.items():
        if name not in shapes:
            problems.append(f"{name} is left over")
        elif (tensor.shape, tensor.dtype) != (shapes[name], np.float32):
            problems.append(
                f"{name} is {tensor.dtype} {list(tensor.shape)} instead of float32 "
                f"{list(shapes[name])}"
            )
        elif not np.isfinite(tensor).all():
            problems.append(f"{name} contains NaN or infinity")
    if problems:
        more = f"; and {len(problems) - 5} more like these" if len(problems) > 5 else ""
        raise InputError(
            f"{path}: does not fit config.json: {'; '.join(problems[:5])}{more}; {_AGAIN}"
        )
    return unflatten_dict(tensors, sep="."), facts


@dataclass(eq=False)
class TrainedRun:
    """A trained model, ready to score dialogues on all devices; see `load_model`."""

    folder: Path
    config: ConfigDict
    emotions: tuple[str, ...]
    feature_tables: dict[str, dict[str, Any]]  # `table.json` of the training's, by modality
    encoder: LoadedEncoder  # with parameters if it is frozen
    params: dict[str, Any]  # of the best epoch, on the devices of `mesh`
    threshold: float  # the least confidence of a pair, chosen on validation
    emotion_threshold: float  # the least probability of an emotion that is named, chosen there
    mesh: Mesh

    def __post_init__(self) -> None:
        self.model = build_model(self.config, self.encoder.config, self.emotions)
        self._score = _compiled(self.model, self.mesh)
        self._score_words, self.params_with_encoder = self._score, self.params
        if (frozen := self.encoder.params) is not None:
            # A table of vectors by utterance id would be as long as a stream.
            model = self.model.clone(dtype=jnp.float32)
            self._score_words = _compiled(model, self.mesh)
            self.params_with_encoder = {**self.params, ENCODER: replicate(frozen, self.mesh)}

    def score(self, batches: Batches) -> list[ScoredDialogue]:
        """Returns the scores of a split from `rpcl_jax.run.workdir.read_splits`."""
        return score_split(self._score, self.params, batches, self.mesh)

    def complete(
        self, tables: Mapping[str, FeatureTable], dialogues: Iterable[Dialogue]
    ) -> dict[str, FeatureTable]:
        """Returns a table for every modality that the run reads; what is not given is absent."""
        for modality, table in tables.items():
            table.check_same_extractor(self.feature_tables[modality])
        return {
            modality: tables.get(modality) or absent_table(description, dialogues)
            for modality, description in self.feature_tables.items()
        }

    def prepare(
        self, dialogues: Sequence[Dialogue], tables: Mapping[str, FeatureTable]
    ) -> list[tuple[np.ndarray, Batch]]:
        """Returns the batches of new dialogues, a chunk of a stream; see `stream_batches`.

        None is longer than `config.data.max_utterances`. `tables` are completed by `complete`.
        """
        tokenizer, tables = self.encoder.tokenizer, self.complete(tables, dialogues)
        devices, own = self.mesh.size, local_device_indices(self.mesh)
        return stream_batches(
            dialogues, tokenizer, tables, self.config, devices, self.emotions, own
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
                for arrays in [all_gather(scores)]
                for place, index in enumerate(places)
                if index >= 0
            }

        return wait


def _compiled(model: PairExtractor, mesh: Mesh) -> Compiled:
    alone = mesh.size == 1 and jax.default_backend() == "cpu"
    return Compiled(make_score(model, mesh), "the scoring function", repr(model) if alone else "")


def load_model(
    model: str | Path,
    devices: int | None = None,
    revision: str | None = None,
    encoder: str | Path | None = None,
) -> TrainedRun:
    """Loads a trained model, by folder or name on the hub, onto a number of devices, or all.

    A folder is of a run, which may still be training: then its best epoch so far is loaded; or
    `rpcl export` wrote it. `encoder` is where its text encoder is, if that is elsewhere and not
    where `config.json` says. Raises InputError if a file is missing or damaged, or if the
    parameters or the encoder do not fit `config.json`.
    """
    folder = model_folder(model, revision)
    path, described = folder / "config.json", read_description(folder)
    config = parse_config(described["run"], path)
    features, emotions = described["feature_tables"], tuple(described["emotions"])
    reads = [MODALITIES[letter] for letter in "av" if letter in config.modalities]
    named = [e for e in emotions if isinstance(e, str)]
    distinct = len(set(named)) == len(emotions) > 1 and emotions[0] == NEUTRAL
    if not distinct or sorted(features) != reads:
        raise InputError(f"{path}: its emotions or its features are not those of a run; {_AGAIN}")
    mesh = make_mesh(devices)
    try:
        sizes = TextEncoderConfig(**described["encoder"])
        tokenizer = load_tokenizer(folder, sizes.vocab_size)
        counts = described.get("word_pieces") or {}  # older folders have none
        pieces = PieceCounts(*(int(counts.get(field, 0)) for field in PieceCounts._fields))
        loaded = LoadedEncoder(sizes, None, tokenizer, pieces)
        check_positions(sizes, config, str(path))
        shapes = _shapes(config, emotions, features, loaded, mesh)
    except InputError:
        raise
    except (AttributeError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: describes no model of this version of rpcl_jax ({reason}); {_AGAIN}, or "
            "update rpcl_jax if a newer version wrote it"
        ) from error
    elsewhere = _load_elsewhere(described, config, loaded, path, encoder)
    for name in by_name(elsewhere):
        shapes.pop(name, None)
    params, facts = read_parameters(folder / WEIGHTS, shapes)
    agree("the model", lambda: [described, facts])
    digest = config_digest(described["run"], emotions)
    if facts.get("config", digest) != digest:  # older folders do not have it
        raise InputError(f"{folder / WEIGHTS}: does not belong to {path}; {_AGAIN}")
    facts = {"emotion_threshold": 0.0} | facts | described  # older folders name every emotion
    threshold = _threshold(facts, "threshold", path)
    least = _threshold(facts, "emotion_threshold", path)
    params = combine(params, elsewhere)
    if is_frozen(config):
        loaded = loaded._replace(params=params.pop(ENCODER))
    params = replicate(params, mesh)
    return TrainedRun(folder, config, emotions, features, loaded, params, threshold, least, mesh)


def _shapes(
    config: ConfigDict,
    emotions: tuple[str, ...],
    features: Mapping[str, Mapping[str, Any]],
    encoder: LoadedEncoder,
    mesh: Mesh,
) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every parameter by name, from an invented dialogue of one word."""
    dialogue = Dialogue("", (Utterance("", "a", "a"),))
    tables = {m: absent_table(description, [dialogue]) for m, description in features.items()}
    own = local_device_indices(mesh)
    ((_, batch),) = stream_batches(
        [dialogue], encoder.tokenizer, tables, config, mesh.size, emotions, own
    )
    model = build_model(config, encoder.config, emotions)

    def made() -> bytes:
        tree = jax.eval_shape(lambda batch: model.init(jax.random.key(0), batch), batch)["params"]
        return json.dumps({name: leaf.shape for name, leaf in by_name(tree).items()}).encode()

    of_batch = jax.tree.map(np.shape, batch)
    found = json.loads(remembered(["shapes", repr(model), of_batch], made))
    return {name: tuple(shape) for name, shape in found.items()}


def _load_elsewhere(
    described: Mapping[str, Any],
    config: ConfigDict,
    encoder: LoadedEncoder,
    path: Path,
    given: str | Path | None,
) -> dict[str, Any]:
    """Returns the parameters of the encoder that `config.json` names; {} if it names none."""
    named = described.get("encoder_elsewhere")
    if not named:
        if given is not None:
            raise InputError(f"{path.parent}: has a text encoder of its own; leave --encoder out")
        return {}
    if not isinstance(named, dict) or {type(named.get(k)) for k in ("name", "digest")} != {str}:
        raise InputError(f"{path}: encoder_elsewhere is not a name and a digest; {_AGAIN}")
    if given is not None:
        name, revision, correct = given, None, f"its text encoder is {named['name']}"
    else:
        correct = "give the folder or hub name of its text encoder as --encoder"
        # Where a run was moved together with its encoder, the relative path still leads there.
        names = [name for name in (named["name"], config.text.pretrained) if name]
        name = next((name for name in names if Path(name).expanduser().is_dir()), named["name"])
        revision = named.get("revision") if hub_name(name) else None
    try:
        sizes, params, _ = load_pretrained(resolve_pretrained(name, revision))
    except InputError as error:
        raise InputError(f"{error}; {correct}") from error
    if encoder_digest(LoadedEncoder(sizes, params, encoder.tokenizer)) != named["digest"]:
        raise InputError(
            f"{name}: not the text encoder that {path.parent} was trained with; {correct}"
        )
    return {ENCODER: params}


def _threshold(facts: Mapping[str, Any], name: str, path: Path) -> float:
    try:
        threshold = float(facts[name])
    except (KeyError, TypeError, ValueError):
        threshold = math.nan
    if not 0 <= threshold <= PREDICT_NOTHING:
        raise InputError(f"{path}: {name} is {facts.get(name)}; {_AGAIN}")
    return threshold
