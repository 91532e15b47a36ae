"""Extracted vectors against direct calls of Transformers and openSMILE on one clip."""

import math
import os
import shutil
import subprocess
import sys
import wave

import numpy as np
import pytest
import transformers
from media import draw, write_media
from shared import ROOT, assert_pointer_is_named, import_or_skip
from small_extractors import save_clip, save_wav2vec2

from rpcl_jax.errors import InputError
from rpcl_jax.extraction.clips import read_frames
from rpcl_jax.extraction.extractors import FRAMES, LONGEST, load_extractor
from rpcl_jax.extraction.finding import ClipError, TimeSpan

Image = import_or_skip("PIL.Image")

opensmile = import_or_skip("opensmile")

torch = import_or_skip("torch")

DURATIONS = (1.0, 2.3, 0.7, 1.7, 0.01)  # in seconds; the last is shorter than one frame
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Writes noise of several durations, 16-bit at 16 kHz."""
    folder, spans = tmp_path_factory.mktemp("sounds"), []
    for seed, duration in enumerate(DURATIONS):
        count = round(duration * 16_000)
        noise = np.random.default_rng(seed).normal(size=count) * np.linspace(200, 9000, count)
        path = folder / f"{duration}.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(noise.clip(-32_000, 32_000).astype(np.int16).tobytes())
        spans.append(TimeSpan(path, 0.0, math.inf))
    return spans


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_wav2vec2_equals_transformers(sounds, tmp_path, norm):
    name = save_wav2vec2(tmp_path / "model", norm)
    extractor = load_extractor("wav2vec2", name)
    assert extractor.modality == "audio"
    assert extractor.description["dimension"] == 16
    rows = extractor.embed([extractor.read(span) for span in sounds])
    assert rows.shape == (len(DURATIONS), 16)
    assert rows.dtype == np.float32

    model = transformers.Wav2Vec2Model.from_pretrained(name).eval()
    prepare = transformers.Wav2Vec2FeatureExtractor.from_pretrained(name)
    for row, span in zip(rows, sounds, strict=True):
        with wave.open(str(span.path)) as file:
            samples = np.frombuffer(file.readframes(1 << 20), np.int16) / np.float32(2**15)
        samples = np.pad(samples, (0, max(0, 400 - len(samples))))
        values = prepare(samples, sampling_rate=16_000, return_tensors="pt").input_values
        with torch.inference_mode():
            expected = model(values).last_hidden_state[0].mean(0).numpy()
        np.testing.assert_allclose(row, expected, atol=2e-5)
    # Verifies that padding would make a difference and that the clips differ.
    assert np.ptp(rows, axis=0).max() > 0.1
    padded = np.pad(extractor.read(sounds[0]), (0, 30_000))
    assert np.abs(extractor.embed([padded])[0] - rows[0]).max() > 1e-3


def test_only_the_first_minute_of_a_clip_is_used(tmp_path):
    path = tmp_path / "long.wav"
    noise = np.random.default_rng(0).normal(size=70 * 16_000).astype(np.float32) / 10
    write_media(path, None, noise, 16_000, audio="pcm_s16le")
    extractor = load_extractor("wav2vec2", save_wav2vec2(tmp_path / "model", "layer"))
    whole = extractor.read(TimeSpan(path, 0.0, math.inf))
    assert len(whole) == LONGEST * 16_000
    rows = extractor.embed([whole, whole[:5000], whole[:9000]])
    np.testing.assert_allclose(rows[1], extractor.embed([whole[:5000]])[0], atol=2e-5)


@pytest.mark.slow
def test_opensmile_equals_its_own_reader(sounds):
    extractor = load_extractor("opensmile")
    assert extractor.description == {
        "extractor": "opensmile",
        "model": "ComParE_2016",
        "revision": opensmile.__version__,
        "dimension": 6373,
    }
    rows = extractor.embed([extractor.read(span) for span in sounds[:3]])
    smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)
    for row, span in zip(rows, sounds[:3], strict=True):
        expected = smile.process_file(str(span.path)).to_numpy()[0]
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-5)
    assert np.isfinite(rows).all()
    assert not np.allclose(rows[0], rows[1])
    with pytest.raises(ClipError, match=r"0\.010 s of audio are too short"):
        extractor.read(sounds[-1])


@pytest.mark.slow
def test_clip_equals_transformers(tmp_path):
    spans = []
    for emotion, start, end in (("joy", 0.0, math.inf), ("fear", 0.5, 1.9), ("anger", 0.0, 1.0)):
        write_media(tmp_path / f"{emotion}.mp4", draw(emotion, 60), None, 16_000)
        spans.append(TimeSpan(tmp_path / f"{emotion}.mp4", start, end))
    name = save_clip(tmp_path / "model")
    extractor = load_extractor("clip", name)
    assert extractor.modality == "vision"
    assert extractor.description["dimension"] == 12
    # More frames than one batch.
    rows = extractor.embed([extractor.read(span) for span in spans * 3])
    assert rows.shape == (9, 12)

    model = transformers.CLIPModel.from_pretrained(name).eval()
    prepare = transformers.CLIPImageProcessorPil.from_pretrained(name)
    for row, span in zip(rows, spans * 3, strict=True):
        end = min(span.end, 60 / 25)
        each = []
        for k in range(FRAMES):
            at = span.start + (k + 0.5) * (end - span.start) / FRAMES
            (frame,) = read_frames(span.path, at - 0.001, at + 0.001, 1)
            pixels = prepare(images=Image.fromarray(frame), return_tensors="pt").pixel_values
            with torch.inference_mode():
                each.append(model.get_image_features(pixels).pooler_output[0].numpy())
        np.testing.assert_allclose(row, np.mean(each, axis=0), atol=2e-5)
    assert np.ptp(rows[:3], axis=0).max() > 0.1
    np.testing.assert_allclose(rows[:3], rows[6:], atol=1e-6)


def test_the_revision_is_a_digest_of_the_weights(tmp_path):
    first = load_extractor("clip", save_clip(tmp_path / "a")).description
    again = load_extractor("clip", save_clip(tmp_path / "b")).description
    assert len(first["revision"]) == 40
    assert first["revision"] == again["revision"]
    assert first["model"] == str(tmp_path / "a")
    other = tmp_path / "b/preprocessor_config.json"
    other.write_text(other.read_text() + " ")
    assert load_extractor("clip", str(tmp_path / "b")).description["revision"] != first["revision"]


@pytest.mark.slow
def test_a_model_of_the_hub_is_identified_by_its_commit(tmp_path):
    snapshots = tmp_path / "hub/models--made--up/snapshots"
    save_clip(snapshots / COMMIT)
    older = "0" * 40
    save_clip(snapshots / older)
    refs = tmp_path / "hub/models--made--up/refs/main"
    refs.parent.mkdir()
    refs.write_text(COMMIT)
    code = (
        "from rpcl_jax.extraction.extractors import load_extractor\n"
        "print(load_extractor('clip', 'made/up').description)\n"
        f"print(load_extractor('clip', 'made/up', '{older}').description)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    newest, asked = done.stdout.splitlines() or [done.stderr] * 2
    assert f"'model': 'made/up', 'revision': '{COMMIT}'" in newest
    assert f"'model': 'made/up', 'revision': '{older}'" in asked


def test_models_that_cannot_be_used_are_refused(tmp_path):
    clip = save_clip(tmp_path / "clip")

    def refused(extractor, model, match):
        with pytest.raises(InputError, match=match) as error:
            load_extractor(extractor, str(model))
        assert "\n" not in str(error.value)

    refused("nosuch", "", "use one of wav2vec2, opensmile, clip")
    refused("wav2vec2", clip, "model_type 'clip'; give a model of type 'wav2vec2'")
    refused("clip", tmp_path / "none", "none: cannot be loaded")
    refused("clip", tmp_path / "clip/config.json", "config.json: is a file; give the folder")
    with pytest.raises(InputError, match="pip install opensmile==1"):
        load_extractor("opensmile", revision="1")
    for name, content in (("preprocessor_config.json", "[]"), ("config.json", "[]")):
        damaged = shutil.copytree(clip, tmp_path / f"damaged {name}")
        (damaged / name).write_text(content)
        refused("clip", damaged, "cannot be loaded")
    weights = tmp_path / "clip/model.safetensors"
    import safetensors.torch

    tensors = safetensors.torch.load_file(weights)
    del tensors["visual_projection.weight"]
    safetensors.torch.save_file(tensors, weights, {"format": "pt"})
    refused("clip", clip, "1 weights are missing.*visual_projection")
    weights.unlink()
    torch.save(tensors, tmp_path / "clip/pytorch_model.bin")
    refused("clip", clip, "clip: cannot be loaded")  # a pickle
    weights.write_bytes(b"nonsense")
    refused("clip", clip, "clip: cannot be loaded")
    assert_pointer_is_named(weights, load_extractor, "clip", str(clip))


@pytest.mark.parametrize("package", ["torch", "av", "opensmile", "PIL"])
def test_missing_packages_are_reported_in_one_line(package):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from rpcl_jax.errors import InputError\n"
        "try:\n  import rpcl_jax.extraction.extractors\n"
        "except InputError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.count("\n") == 1, done.stderr
    assert 'pip install "rpcl_jax[features]"' in done.stdout
