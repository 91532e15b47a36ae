"""Feature extractors, which map a clip to a vector: wav2vec 2.0, openSMILE and CLIP.

No other module imports openSMILE, and only `rpcl_jax.torch_losses` imports PyTorch too.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError

from rpcl_jax.errors import InputError
from rpcl_jax.extraction.clips import read_audio, read_frames
from rpcl_jax.extraction.finding import ClipError, TimeSpan
from rpcl_jax.files import check_not_pointer

try:
    import opensmile
    import PIL.Image  # noqa: F401 (Transformers needs it but checks only when it is used)
    import torch
    import transformers
    from safetensors import SafetensorError
except ImportError as error:
    raise InputError(
        f"feature extraction requires packages that are not installed ({error}); "
        'pip install "rpcl_jax[features]"'
    ) from error

# The values of --extractor and the default model of each.
EXTRACTORS = {
    "wav2vec2": "facebook/wav2vec2-base-960h",
    "opensmile": "ComParE_2016",
    "clip": "openai/clip-vit-large-patch14",
}
FRAMES = 8  # frames per clip, for CLIP
LONGEST = 60.0  # seconds; later audio of a clip is ignored
_RATE = 16_000  # sample rate of all audio models, in Hz
_AT_ONCE = 32  # frames per batch


@dataclass(frozen=True)
class Extractor:
    """A model that maps a clip to a vector."""

    modality: Literal["audio", "vision"]
    # The contents of `table.json`: extractor, model, revision (the hub's commit, a digest of a
    # local model's files, or openSMILE's version) and dimension.
    description: dict[str, Any]
    read: Callable[[TimeSpan], np.ndarray]  # the model's input; thread-safe; raises ClipError
    # From k inputs float32 [k, dimension]; the others change a vector by rounding at most.
    embed: Callable[[Sequence[np.ndarray]], np.ndarray]


def load_extractor(name: str, model: str = "", revision: str = "") -> Extractor:
    """Loads a model, onto the GPU if there is one.

    Args:
      model: folder or hub name of a model with safetensors weights; empty for the default.
      revision: for a model on the hub, a commit, branch or tag, or empty for the newest commit;
        for a folder, the digest that its files must have, or empty.
    """
    loaders = {
        "wav2vec2": _load_wav2vec2,
        "opensmile": _load_opensmile,
        "clip": _load_clip,
    }
    if name not in loaders:
        raise InputError(f"extractor {name!r} is unknown; use one of {', '.join(EXTRACTORS)}")
    return loaders[name](model or EXTRACTORS[name], revision)


def _load_opensmile(name: str, revision: str) -> Extractor:
    """Loads openSMILE's ComParE 2016 functionals, 6373 numbers, as in ECF's official table."""
    if name != EXTRACTORS["opensmile"]:
        raise InputError(f"openSMILE's {name!r} is not supported; omit the model")
    if revision not in ("", opensmile.__version__):
        raise InputError(
            f"openSMILE {opensmile.__version__} is installed; pip install opensmile=={revision}"
        )
    smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)

    def read(span: TimeSpan) -> np.ndarray:
        samples = _listen(span)
        if len(samples) < _RATE // 10:  # a window of 60 ms, and neighbouring windows for the deltas
            raise ClipError(
                f"{span.path}: {len(samples) / _RATE:.3f} s of audio are too short for "
                "openSMILE; correct the times or the file"
            )
        return samples

    def embed(sounds: Sequence[np.ndarray]) -> np.ndarray:
        rows = [smile.process_signal(samples, _RATE).to_numpy()[0] for samples in sounds]
        return np.stack(rows).astype(np.float32)

    description = _describe("opensmile", name, opensmile.__version__, len(smile.feature_names))
    return Extractor("audio", description, read, embed)


def _load_wav2vec2(name: str, revision: str) -> Extractor:
    """Loads wav2vec 2.0; a clip's vector is the mean of the last hidden states."""
    # Models with `feat_extract_norm` "group" normalise over time, padding included, and were
    # trained without an attention mask, so they process one clip at a time.
    model, found = _load_model(transformers.Wav2Vec2Model, name, revision, "wav2vec2")
    prepare = _from_pretrained(transformers.AutoFeatureExtractor, name, revision)
    if prepare.sampling_rate != _RATE:
        raise InputError(f"{name}: expects {prepare.sampling_rate} Hz; use a model for {_RATE} Hz")
    config = model.config
    shortest = 1  # number of samples in one frame
    for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
        shortest = (shortest - 1) * stride + kernel
    alone = config.feat_extract_norm == "group"

    def read(span: TimeSpan) -> np.ndarray:
        samples = _listen(span)
        samples = np.pad(samples, (0, max(0, shortest - len(samples))))
        return prepare(samples, sampling_rate=_RATE, return_tensors="np").input_values[0]

    @torch.inference_mode()
    def embed(sounds: Sequence[np.ndarray]) -> np.ndarray:
        rows = np.empty((len(sounds), config.hidden_size), np.float32)
        for batch in _of_like_length(sounds, alone):
            lengths = torch.tensor([len(sounds[i]) for i in batch])
            padded = torch.zeros(len(batch), int(lengths.max()))
            for row, i in zip(padded, batch, strict=True):
                row[: len(sounds[i])] = torch.from_numpy(sounds[i])
            mask = None if alone else (torch.arange(padded.shape[1]) < lengths[:, None]).long()
            states = model(
                padded.to(model.device), None if mask is None else mask.to(model.device)
            ).last_hidden_state
            frames = model._get_feat_extract_output_lengths(lengths)
            for i, state, count in zip(batch, states, frames.tolist(), strict=True):
                rows[i] = state[:count].mean(0).cpu().numpy()
        return rows

    description = _describe("wav2vec2", name, found, config.hidden_size)
    return Extractor("audio", description, read, embed)


def _of_like_length(sounds: Sequence[np.ndarray], alone: bool) -> Iterator[list[int]]:
    """Yields batches of indices by length; a padded batch is at most `LONGEST` seconds long."""
    batch: list[int] = []
    for i in sorted(range(len(sounds)), key=lambda i: len(sounds[i])):
        if batch and (alone or (len(batch) + 1) * len(sounds[i]) > LONGEST * _RATE):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _load_clip(name: str, revision: str) -> Extractor:
    """Loads CLIP; a clip's vector is the mean image embedding of `FRAMES` evenly spaced frames."""
    kind = transformers.CLIPVisionModelWithProjection
    model, found = _load_model(kind, name, revision, "clip")
    # A fixed backend, so that the features do not depend on which packages are installed.
    prepare = _from_pretrained(transformers.AutoImageProcessor, name, revision, backend="pil")

    def read(span: TimeSpan) -> np.ndarray:
        frames = read_frames(*span, FRAMES)
        return prepare(images=list(frames), return_tensors="np")["pixel_values"]

    @torch.inference_mode()
    def embed(films: Sequence[np.ndarray]) -> np.ndarray:
        pixels = torch.from_numpy(np.concatenate(films)).split(_AT_ONCE)
        embedded = [model(part.to(model.device)).image_embeds for part in pixels]
        return torch.cat(embedded).reshape(len(films), FRAMES, -1).mean(1).cpu().numpy()

    description = _describe("clip", name, found, model.config.projection_dim)
    return Extractor("vision", description, read, embed)


def _describe(extractor: str, model: str, revision: str, dimension: int) -> dict[str, Any]:
    folder = Path(model).expanduser()
    return {
        "extractor": extractor,
        "model": str(folder.resolve()) if folder.is_dir() else model,
        "revision": revision,
        "dimension": dimension,
    }


def _listen(span: TimeSpan) -> np.ndarray:
    end = min(span.end, span.start + LONGEST)
    return read_audio(span.path, span.start, end, _RATE)


def _load_model(kind: Any, name: str, revision: str, family: str) -> tuple[Any, str]:
    """Returns a model in inference mode and its revision: its digest, or its commit on the hub."""
    found = _from_pretrained(transformers.AutoConfig, name, revision).model_type
    if found not in (family, f"{family}_vision_model"):
        raise InputError(f"{name}: has model_type {found!r}; give a model of type {family!r}")
    # Safetensors only: nothing is ever unpickled.
    model, loaded = _from_pretrained(
        kind, name, revision, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    # Transformers initialises missing weights at random. The mask's vector is for training only.
    missing = sorted({*loaded["missing_keys"]} - {"masked_spec_embed"})
    missing += sorted(str(key) for key in loaded.get("mismatched_keys") or ())
    if missing:
        raise InputError(
            f"{name}: {len(missing)} weights are missing or of the wrong shape, the first being "
            f"{missing[0]}; download it again"
        )
    model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    folder = Path(name).expanduser()
    if folder.is_dir():
        digest = _digest(folder)
        if revision not in ("", digest):
            raise InputError(f"{name}: digest of its files is {digest}, not {revision}")
        return model, digest
    # The model is now in the hub's cache, where its folder is named after the commit.
    config = try_to_load_from_cache(name, "config.json", revision=revision or None)
    if not isinstance(config, str):
        raise InputError(f"{name}: its commit was not found in the hub's cache; download it again")
    return model, Path(config).parent.name


def _from_pretrained(kind: Any, name: str, revision: str, **options: Any) -> Any:
    folder = Path(name).expanduser()
    if folder.is_file():  # Transformers would load it as weights, even pickled ones
        raise InputError(f"{name}: is a file; give the folder of the model")
    if not folder.is_dir():
        options["revision"] = revision or "main"
    else:
        for path in folder.iterdir():
            check_not_pointer(path)
    level = logging.getLogger("transformers").level
    transformers.logging.set_verbosity_error()  # missing weights are reported in one line instead
    try:
        return kind.from_pretrained(str(folder), **options)
    # The last three are raised if a JSON file of the model has unexpected contents.
    except (
        *(OSError, ValueError, RuntimeError, SafetensorError),
        *(AttributeError, TypeError, StrictDataclassError),
    ) as error:
        reason = " ".join(str(error).split(".\n")[0].split())
        raise InputError(
            f"{name}: cannot be loaded ({reason}); give a folder with config.json, "
            "preprocessor_config.json and model.safetensors, or a name on the Hugging Face hub"
        ) from error
    finally:
        transformers.logging.set_verbosity(level)


def _digest(folder: Path) -> str:
    """Returns a digest of the files in a folder that determine the vectors."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*config.json"), *folder.glob("*.safetensors")]):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:40]
