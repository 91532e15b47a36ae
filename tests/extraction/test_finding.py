"""Which file and which time span an utterance has."""

import math
import re
import shutil

import pytest
from shared import import_or_skip

import_or_skip("av")

from rpcl_jax.data.dialogue import Clip, Utterance
from rpcl_jax.errors import InputError
from rpcl_jax.extraction.finding import ClipError, check_any_found, find_clip, index_clips


@pytest.fixture
def folder(tmp_path):
    for name in ("S01E01.mkv", "deep/dia1utt1.MP4", "dia1utt2.mp4", "._dia1utt3.mp4", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def found(folder, identifier, clip=None):
    span = find_clip(index_clips(folder), Utterance(identifier, "A", "text", clip=clip))
    return span.path.name, span.start, span.end


def test_clips_are_found_by_video_or_by_id(folder):
    whole = (0.0, math.inf)
    assert found(folder, "x", Clip("S01E01", 1.5, 2.5)) == ("S01E01.mkv", 1.5, 2.5)
    assert found(folder, "x", Clip("dia1utt1")) == ("dia1utt1.MP4", *whole)
    assert found(folder, "dia1utt1") == ("dia1utt1.MP4", *whole)
    assert found(folder, "dia1utt2", Clip("S09E09", 1.5, 2.5)) == ("dia1utt2.mp4", *whole)
    # If both files exist, the clip takes precedence.
    assert found(folder, "dia1utt2", Clip("S01E01", 1.5, 2.5))[0] == "S01E01.mkv"
    (folder / "linked").mkdir()
    (folder / "linked" / "clips").symlink_to(folder / "deep")
    assert found(folder / "linked", "dia1utt1") == ("dia1utt1.MP4", *whole)


def test_a_video_may_be_named_with_its_extension(folder):
    index = index_clips(folder)
    name = next(iter(index))
    ending = index[name][0].suffix
    utterances = [
        Utterance("none", "A", "x", clip=Clip(video, 1.0, 2.0)) for video in (name, name + ending)
    ]
    assert find_clip(index, utterances[0]) == find_clip(index, utterances[1])


def test_clips_that_are_missing_or_ambiguous_are_refused(folder):
    with pytest.raises(ClipError, match="no file named S09E09 or dia1utt3 "):
        found(folder, "dia1utt3", Clip("S09E09", 1.0, 2.0))
    with pytest.raises(ClipError, match="no file named dia1utt3 with"):
        found(folder, "dia1utt3")
    shutil.copy(folder / "dia1utt2.mp4", folder / "deep" / "dia1utt2.wav")
    assert found(folder, "dia1utt1")[0] == "dia1utt1.MP4"
    with pytest.raises(InputError, match=r"dia1utt2.*same name.*remove") as error:
        found(folder, "dia1utt2")
    assert not isinstance(error.value, ClipError)  # the user has to decide
    with pytest.raises(InputError, match="no such folder"):
        index_clips(folder / "none")
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="contains no clip"):
        index_clips(folder / "empty")


@pytest.mark.parametrize(
    ("there", "named"),
    [
        ("Zoe\u0308.wav", "Zo\u00eb"),  # macOS writes decomposed names
        ("Zo\u00eb.wav", "zoe\u0308.WAV"),
        ("Session1.MP4", "session1.mp4"),
        ("deep/a b.mov", "C:\\\\films\\\\A B.mov"),
        ("S01E01.mkv", "Friends_S1E1"),
        ("friends s1 e01.mp4", "S01E01"),
        ("Friends.S01E01.720p.BluRay.mkv", "Friends_S1E1"),
    ],
)
def test_names_are_compared_as_people_do(tmp_path, there, named):
    for name in (there, "other.wav", "S01E10.mkv", "S11E01.mkv", "S02E01_utt1.mkv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert found(tmp_path, "x", Clip(named, 1.0, None)) == (there.rpartition("/")[2], 1.0, math.inf)
    with pytest.raises(ClipError):
        found(tmp_path, "S02E01_utt2")  # another utterance's file of the same episode


def test_the_same_case_is_preferred_and_others_are_ambiguous(tmp_path):
    for name in ("A.wav", "a.wav", "S01E01.1080p.mkv", "S1E1 (cut).mkv"):
        (tmp_path / name).touch()
    if len(list(tmp_path.iterdir())) < 4:
        pytest.skip("the file system ignores case")
    assert found(tmp_path, "a")[0] == "a.wav"
    assert found(tmp_path, "A")[0] == "A.wav"
    with pytest.raises(InputError, match="has the same name"):
        found(tmp_path, "S01E01")


MELD = {"dia1utt1": "train_dia0_utt0", "dia2utt1": "dev_dia0_utt0", "dia3utt1": "test_dia0_utt0",
        "dia4utt1": "train_dia559_utt0"}  # fmt: skip


def meld(folder):
    """The files of the four utterances of MELD, relative to `folder`."""
    index = index_clips(folder, MELD)
    files = {}
    for identifier in MELD:
        utterance = Utterance(identifier, "A", "x", clip=Clip("Friends_S1E1", 1.0, 2.0))
        try:
            files[identifier] = str(find_clip(index, utterance).path.relative_to(folder))
        except ClipError:
            files[identifier] = None
    return list(files.values())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # As MELD.Raw is laid out.
        (["train_splits/dia0_utt0.mp4", "dev_splits_complete/dia0_utt0.mp4",
          "output_repeated_splits_test/dia0_utt0.mp4", "train_splits/dia559_utt0.mp4"],
         [0, 1, 2, 3]),
        (["x/train_dia0_utt0.wav", "x/test_dia0_utt0.wav"], [0, None, 1, None]),
        # One split alone: its files are not taken for those of others.
        (["dev/dia0_utt0.wav", "dev/dia559_utt0.wav"], [None, 0, None, None]),
        # Without a name of a split, only what is in one split is certain.
        (["dia0_utt0.wav", "dia559_utt0.wav"], [None, None, None, 1]),
        (["latest/dia0_utt0.wav", "latest/dia559_utt0.wav"], [None, None, None, 1]),
    ],
)  # fmt: skip
def test_clips_of_meld(tmp_path, names, expected):
    folder = tmp_path / "clips"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert meld(folder) == [None if k is None else names[k] for k in expected]


def test_a_folder_of_meld_that_names_its_split(tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test/dia0_utt0.wav").touch()
    assert meld(tmp_path / "test") == [None, None, "dia0_utt0.wav", None]


def test_nothing_found_says_what_was_sought_and_what_there_is(folder):
    index = index_clips(folder)
    utterances = [Utterance(name, "A", "x") for name in ("session1", "session2")]
    missing = [ClipError("no file named session1 with an extension; add it")] * 2
    expected = "for session1, no file named session1 with an extension, but there is S01E01.mkv;"
    with pytest.raises(InputError, match=re.escape(f"any of the 2 utterances; {expected}")):
        check_any_found(folder, index, utterances, missing)
    some = find_clip(index, Utterance("dia1utt1", "A", "x"))
    check_any_found(folder, index, utterances, [missing[0], some])
    check_any_found(folder, index, [], [])


def test_a_name_with_an_extension_or_a_folder_means_that_file(tmp_path):
    for name in ("a/session1.mp4", "a/session1.wav", "b/Session1.WAV"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    index = index_clips(tmp_path)
    for given, file in {
        "session1.mp4": "a/session1.mp4", "x\\\\A\\session1.mp4": "a/session1.mp4",
        "b/session1": "b/Session1.WAV", "a/SESSION1.wav": "a/session1.wav",
    }.items():  # fmt: skip
        span = find_clip(index, Utterance("x", "A", "x", clip=Clip(given, 1.0, 2.0)))
        assert span.path == tmp_path / file
    with pytest.raises(InputError, match="write its extension in the transcript"):
        find_clip(index, Utterance("x", "A", "x", clip=Clip("a/session1")))
