"""Extraction on Ray workers: the local table to the byte, whatever is killed on the way."""

import os
import wave
from types import SimpleNamespace

import numpy as np
import pytest
from ray_workers import kill_workers
from shared import ROOT, import_or_skip, run_python

import_or_skip("ray")
import_or_skip("torch")
import_or_skip("av")

from small_extractors import save_wav2vec2

from rpcl_jax.cluster import extraction
from rpcl_jax.cluster.extraction import extract_on_ray
from rpcl_jax.data.dialogue import Clip, Utterance
from rpcl_jax.errors import InputError
from rpcl_jax.extraction.extract import CHUNK, extract_table
from rpcl_jax.extraction.extractors import load_extractor
from rpcl_jax.extraction.finding import ClipError, TimeSpan

FILES = ("features.npy", "ids.txt", "table.json", "absent.txt")
COUNT = 6 * CHUNK + 3
UTTERANCES = [
    Utterance(f"dia1utt{i + 1}", "A", "text", clip=Clip("clip", 1.0, 2.0)) for i in range(COUNT)
]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Noise of 0.1 s for each utterance; one file is missing, one broken."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for i, utterance in enumerate(UTTERANCES):
        path = folder / f"{utterance.id}.wav"
        if i == 20:
            path.write_bytes(b"no sound")
        elif i != 3:
            with wave.open(str(path), "wb") as file:
                file.setparams((1, 2, 16_000, 0, "NONE", ""))
                file.writeframes(rng.integers(-9000, 9000, 1600 + i, np.int16).tobytes())
    return folder


@pytest.fixture(scope="module")
def extractor(tmp_path_factory):
    return load_extractor("wav2vec2", save_wav2vec2(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def whole(clips, extractor, tmp_path_factory):
    """The local table."""
    out = tmp_path_factory.mktemp("whole") / "audio"
    assert len(extract_table(UTTERANCES, clips, extractor, out)) == 2
    return contents(out)


def contents(out):
    return {name: (out / name).read_bytes() for name in FILES}


class Stopped(Exception):
    """Stands for a kill of the command."""


@pytest.mark.slow
@pytest.mark.long
def test_killed_workers_and_a_killed_command(ray, whole, clips, extractor, tmp_path):
    out, extract, killed = tmp_path / "audio", extract_on_ray(ray, extractor.description), []

    def disturbed(chunks):
        for number, result in enumerate(extract(chunks)):
            if number == 1:
                killed.extend(kill_workers(os.getpid(), "_Worker"))
            elif number == 4:
                raise Stopped
            yield result

    with pytest.raises(Stopped):
        extract_table(UTTERANCES, clips, extractor, out, extract=disturbed)
    assert killed
    done = set((tmp_path / "audio.partial").glob("*.npz"))
    assert len(done) == 4
    seen = []

    def watched(chunks):
        for result in extract(chunks):
            seen.append(result[0])
            yield result

    extract_table(UTTERANCES, clips, extractor, out, extract=watched)
    assert contents(out) == whole
    assert len(seen) == 7 - 4


@pytest.mark.slow
@pytest.mark.long
def test_another_revision_is_refused(ray, whole, clips, extractor, tmp_path):
    out = tmp_path / "audio"
    described = extractor.description | {"revision": "0" * 40}
    extract = extract_on_ray(ray, described)
    with pytest.raises(InputError, match="0000"):
        extract_table(UTTERANCES, clips, extractor, out, extract=extract)
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.long
def test_a_chunk_that_kills_its_workers(ray, whole, clips, extractor, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "_RETRIES", 0)
    extract = extract_on_ray(ray, extractor.description)

    def deadly(chunks):
        for result in extract(chunks):
            kill_workers(os.getpid(), "_Worker")
            yield result

    with pytest.raises(InputError, match=r"chunk \d: its worker was killed 1 times \(.*\); look"):
        extract_table(UTTERANCES, clips, extractor, tmp_path / "t", extract=deadly)


def test_a_machine_that_lacks_a_folder_or_a_clip(extractor, tmp_path):
    """The clips of such a machine must not be taken for missing."""
    gone = tmp_path / "gone.wav"
    worker = extraction._Worker(extractor.description, os.getcwd())
    with pytest.raises(InputError, match=r"gone.wav: not found on .* all machines of the cluster"):
        worker.extract([ClipError("there never was one"), TimeSpan(gone, 0.0, 1.0)])
    with pytest.raises(InputError, match=r"gone: not found on "):
        extraction._Worker(extractor.description, str(tmp_path / "gone")).extract([])


def places(nodes, name):
    """The options of a worker for this extractor, on nodes with these resources."""
    options, ray = {}, SimpleNamespace(remote=lambda _: SimpleNamespace(options=options.update))
    ray.nodes = lambda: [{"Alive": True, "Resources": resources} for resources in nodes]
    extract_on_ray(ray, {"extractor": name})
    return options["num_gpus"], options["num_cpus"]


def test_what_a_worker_asks_for():
    head, small, large = {"memory": 1.0}, {"CPU": 8.0}, {"CPU": 64.0, "GPU": 8.0}
    assert places([head, small, large], "clip") == (1, 1)
    assert places([head, small, large], "opensmile") == (0, 1)
    assert places([head, small], "wav2vec2") == (0, 8)
    assert places([head], "wav2vec2") == (0, 1)


@pytest.mark.slow
@pytest.mark.long
def test_the_command(whole, clips, extractor, tmp_path):
    lines = [f"1 {COUNT}", "(1,1)"]
    lines += [
        f"{t} | Ann | joy | Oh. | clip: 0:00:01.000 - 0:00:02.000" for t in range(1, COUNT + 1)
    ]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    relative, out = os.path.relpath(clips, ROOT), tmp_path / "audio"
    done = run_python(
        *("tools/extract_features.py", "--config=configs/ecf.py", f"--config.data.root={tmp_path}"),
        *("--splits=train", f"--clips={relative}", "--extractor=wav2vec2", f"--out={out}"),
        *(f"--model={extractor.description['model']}", "--engine=ray"),
    )
    assert f"{out}: {COUNT - 2} of {COUNT} utterances" in done.stdout
    assert f"{COUNT}/{COUNT}" in done.stderr  # the bar
    expected = whole["absent.txt"].replace(str(clips).encode(), relative.encode())
    assert contents(out) == whole | {"absent.txt": expected}
