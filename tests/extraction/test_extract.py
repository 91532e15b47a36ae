"""Extraction with kills, shards and absent clips, with a trivial model."""

import math
import os
import wave

import numpy as np
import pytest
from shared import import_or_skip

import_or_skip("av")

from rpcl_jax.data import features
from rpcl_jax.data.dialogue import Clip, Utterance
from rpcl_jax.data.features import FeatureTable
from rpcl_jax.errors import InputError
from rpcl_jax.extraction import extract as extraction
from rpcl_jax.extraction.clips import read_audio
from rpcl_jax.extraction.extract import CHUNK, extract_table, parse_shard
from rpcl_jax.extraction.extractors import Extractor
from rpcl_jax.extraction.finding import ClipError

COUNT = 5 * CHUNK + 3
UTTERANCES = [Utterance(f"utt{i}", "A", "text") for i in range(COUNT)]
FILES = ("features.npy", "ids.txt", "table.json", "absent.txt")
ABSENT = {"utt3": "missing", "utt20": "broken", f"utt{COUNT - 1}": "missing"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Writes constant sounds, 100 higher for each utterance; one is missing, one broken."""
    folder = tmp_path_factory.mktemp("clips")
    for i, utterance in enumerate(UTTERANCES):
        kind = ABSENT.get(utterance.id)
        if kind == "broken":
            (folder / f"{utterance.id}.wav").write_bytes(b"no sound")
        elif kind is None:
            with wave.open(str(folder / f"{utterance.id}.wav"), "wb") as file:
                file.setparams((1, 2, 16_000, 0, "NONE", ""))
                file.writeframes(np.full(160, 100 * i, np.int16).tobytes())
    return folder


class Killed(Exception):
    """Stands for a kill."""


class Model:
    """An extractor that records what it reads and dies after `lives` batches."""

    def __init__(self, lives=math.inf, revision="0", model="sum"):
        self.lives, self.read_names = lives, []
        described = {"extractor": "made up", "model": model, "revision": revision, "dimension": 2}
        self.extractor = Extractor("audio", described, self.read, self.embed)

    def read(self, span):
        self.read_names.append(span.path.stem)
        return read_audio(span.path, span.start, span.end)

    def embed(self, sounds):
        if self.lives == 0:
            raise Killed
        self.lives -= 1
        # The mean of the batch, so that a row shows which clips it was computed with.
        together = np.mean([sound.mean() for sound in sounds])
        return np.array([[s.mean() * 2**15, together] for s in sounds], np.float32)


def extract(out, clips, model=None, **options):
    model = model or Model()
    return extract_table(UTTERANCES, clips, model.extractor, out, **options)


def contents(folder):
    assert sorted(os.listdir(folder)) == sorted(FILES)
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def whole(clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "audio"
    absent = extract(out, clips)
    assert [identifier for identifier, _ in absent] == list(ABSENT)
    assert os.listdir(out.parent) == ["audio"]
    return contents(out)


def test_the_table_has_each_utterance_once(whole, clips, tmp_path):
    extract(tmp_path / "audio", clips)
    table = FeatureTable.load(tmp_path / "audio")
    expected = {f"utt{i}": 100 * i for i in range(COUNT) if f"utt{i}" not in ABSENT}
    assert list(table.row_of_id) == list(expected)
    np.testing.assert_allclose(
        table.rows(list(expected)).values[:, 0], list(expected.values()), atol=0.01
    )
    assert table.values.dtype == np.float32
    assert table.description["model"] == "sum"
    lines = (tmp_path / "audio/absent.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == list(ABSENT)
    reasons = dict(line.split("\t") for line in lines)
    assert "no file named utt3 " in reasons["utt3"]
    assert "utt20.wav: cannot be decoded (Invalid data" in reasons["utt20"]


@pytest.mark.parametrize("lives", range(6))
def test_killed_after_any_chunk(whole, clips, tmp_path, lives):
    out, first, second = tmp_path / "audio", Model(lives), Model()
    with pytest.raises(Killed):
        extract(out, clips, first)
    assert not out.exists()
    assert len(list((tmp_path / "audio.partial").glob("*.npz"))) == lives
    extract(out, clips, second)
    assert contents(out) == whole
    # Finished chunks are not extracted again.
    done = {f"utt{i}" for i in range(lives * CHUNK)}
    assert not done & set(second.read_names)
    assert len(second.read_names) == len(set(second.read_names))


def test_killed_while_the_table_is_made(whole, clips, tmp_path, monkeypatch):
    out, save = tmp_path / "audio", FeatureTable.save

    def save_and_die(table, folder):
        save(table, folder)
        raise Killed

    monkeypatch.setattr(FeatureTable, "save", save_and_die)
    with pytest.raises(Killed):
        extract(out, clips)
    assert not out.exists()
    monkeypatch.undo()
    again = Model()
    extract(out, clips, again)
    assert contents(out) == whole
    assert again.read_names == []


def test_killed_while_the_table_is_written(whole, clips, tmp_path, monkeypatch):
    """Simulates a restarted container, which reuses the process id."""
    out = tmp_path / "audio"

    def die(*arguments, **options):
        raise Killed

    monkeypatch.setattr(features.np, "save", die)
    monkeypatch.setattr("shutil.rmtree", die)
    with pytest.raises(Killed):
        extract(out, clips)
    monkeypatch.undo()
    assert not out.exists()
    again = Model()
    extract(out, clips, again)
    assert again.read_names == []
    assert contents(out) == whole
    assert os.listdir(tmp_path) == ["audio"]


def test_killed_before_the_chunks_are_removed(whole, clips, tmp_path, monkeypatch):
    out, remove = tmp_path / "audio", extraction.shutil.rmtree

    def die(path, **options):
        if path.name == "audio.partial":
            raise Killed
        remove(path, **options)

    monkeypatch.setattr(extraction.shutil, "rmtree", die)
    with pytest.raises(Killed):
        extract(out, clips)
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == ["audio", "audio.partial"]
    # Only the header is left, so that another extraction cannot use the folder.
    assert os.listdir(tmp_path / "audio.partial") == ["header.json"]
    with pytest.raises(InputError, match="instead of 'other'"):
        extract(out, clips, Model(revision="other"))
    assert [i for i, _ in extract(out, clips, Model(lives=0))] == list(ABSENT)
    assert os.listdir(tmp_path) == ["audio"]
    assert contents(out) == whole


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1)])
def test_shards_make_the_same_table(whole, clips, tmp_path, order):
    out, seen = tmp_path / "audio", []
    for part in order:
        model = Model()
        absent = extract(out, clips, model, shard=(part, 3))
        assert not out.exists()
        assert model.read_names
        seen += model.read_names
        assert {i for i, _ in absent} == {
            f"utt{i}" for i in range(COUNT) if f"utt{i}" in ABSENT and i // CHUNK % 3 == part - 1
        }
    last = Model()
    assert [i for i, _ in extract(out, clips, last)] == list(ABSENT)
    assert contents(out) == whole
    seen += last.read_names  # all chunks that the shards left out
    readable = [f"utt{i}" for i in range(COUNT) if ABSENT.get(f"utt{i}") != "missing"]
    assert sorted(seen) == sorted(readable)
    assert bool(last.read_names) == (len(order) < 3)


def test_strict_retries_and_makes_no_table(whole, clips, tmp_path):
    out = tmp_path / "audio"
    assert len(extract(out, clips, strict=True)) == len(ABSENT)
    assert not out.exists()
    model = Model()
    assert len(extract(out, clips, model, strict=True)) == len(ABSENT)
    assert {int(name[3:]) // CHUNK for name in model.read_names} == {0, 1, (COUNT - 1) // CHUNK}
    extract(out, clips, Model(lives=0))  # without strict, the existing chunks suffice
    assert contents(out) == whole


def test_a_different_extraction_is_refused(clips, tmp_path):
    out = tmp_path / "audio"
    extract(out, clips, shard=(1, 2))
    with pytest.raises(InputError, match=r"header.json: .* has revision '0' instead of 'other'"):
        extract(out, clips, Model(revision="other"))
    with pytest.raises(InputError, match=r"header.json: .* has utterances "):
        extract_table(UTTERANCES[1:], clips, Model().extractor, out)
    (tmp_path / "elsewhere").symlink_to(clips.parent)
    extract(out, tmp_path / "elsewhere" / clips.name)
    with pytest.raises(InputError, match="already exists"):
        extract(out, clips)


def test_no_table_is_made_while_shards_are_running(clips, tmp_path):
    out, other, refused = tmp_path / "audio", Model(), []

    def embed(sounds):
        if not refused:
            with pytest.raises(InputError, match="another process is extracting there") as error:
                extract(out, clips)
            refused.append(error)
            extract(out, clips, shard=(2, 3))  # other shards may run
        return np.zeros((len(sounds), 2), np.float32)

    described = other.extractor.description
    slow = Extractor("audio", described, other.read, embed)
    extract_table(UTTERANCES, clips, slow, out, shard=(1, 3))
    assert refused


def test_rows_that_are_not_finite_are_absent(clips, tmp_path):
    model = Model()

    def embed(sounds):
        rows = Model().embed(sounds)
        rows[rows[:, 0] > 7_850, 1] = np.nan  # one whole chunk and part of another
        return rows

    extractor = Extractor("audio", model.extractor.description, model.read, embed)
    absent = extract_table(UTTERANCES, clips, extractor, tmp_path / "t")
    assert [i for i, reason in absent if "NaN" in reason] == ["utt79", "utt80", "utt81"]
    table = FeatureTable.load(tmp_path / "t")
    assert len(table.row_of_id) == COUNT - len(absent)


def test_duplicated_ids_and_missing_folders_are_refused(clips, tmp_path):
    extractor = Model().extractor
    with pytest.raises(InputError, match="utt0 is duplicated"):
        extract_table([UTTERANCES[0]] * 2, clips, extractor, tmp_path / "t")
    strangers = [Utterance("nobody", "A", "text", clip=Clip("nowhere", 1.0, 2.0))]
    # Not one clip is there: the folder is the wrong one, or its files have other names.
    with pytest.raises(InputError, match="no clip of any of the 1 utterances; for nobody, no file"):
        extract_table(strangers, clips, extractor, tmp_path / "t")
    assert not (tmp_path / "t.partial").exists()
    # A table without rows is valid: prediction then treats the modality as absent.
    (tmp_path / "nobody.wav").write_bytes(b"no sound")
    ((absent, _),) = extract_table(strangers, tmp_path, extractor, tmp_path / "t")
    assert absent == "nobody"
    rows, present = FeatureTable.load(tmp_path / "t").rows(["nobody"])
    assert (rows.tolist(), present.tolist()) == ([[0, 0]], [False])
    with pytest.raises(InputError, match="no such folder"):
        extract_table(UTTERANCES, clips / "none", extractor, tmp_path / "u")
    assert not (tmp_path / "u.partial").exists()


def test_time_spans_of_one_file_have_their_own_rows(tmp_path):
    (tmp_path / "clips").mkdir()
    with wave.open(str(tmp_path / "clips/episode.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(np.repeat(np.arange(10) * 1000, 16_000).astype(np.int16).tobytes())
    utterances = [
        Utterance(f"u{s}", "A", "text", clip=Clip("episode", float(s), s + 1.0)) for s in (7, 2, 11)
    ]
    absent = extract_table(utterances, tmp_path / "clips", Model().extractor, tmp_path / "t")
    assert [i for i, _ in absent] == ["u11"]
    table = FeatureTable.load(tmp_path / "t")
    np.testing.assert_allclose(table.rows(["u7", "u2"]).values[:, 0], [7000, 2000], atol=5)


def test_a_reason_is_one_line():
    rows, reasons = extraction.embed_clips(Model().extractor, [ClipError("two\nlines\tand a tab")])
    assert reasons == ["two lines and a tab"]
    assert rows.shape == (0, 2)


def test_parse_shard():
    assert parse_shard("") is None
    assert parse_shard("3/4") == (3, 4)
    for bad in ("0/4", "5/4", "1", "a/b", "1/2/3", "-1/2", "1/0"):
        with pytest.raises(ValueError, match=bad):
            parse_shard(bad)
