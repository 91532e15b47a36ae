"""The reader of ECF's text files, on made-up files and on the benchmark."""

import pickletools
import re
from collections import Counter

import numpy as np
import pytest
from shared import ECF, needs_ecf

from rpcl_jax.data.dialogue import Clip, Dialogue, Utterance
from rpcl_jax.errors import InputError
from rpcl_jax.readers.ecf import read_ecf_text, read_meld_names, read_split

SPLITS = ("train", "dev", "test")

CONVERSATIONS = """\
12 3
(3,1),(1,1)
1 | Ann | surprise | The kettle exploded ! | Show_S1E1: 00:00:03.420 - 00:00:04.382
2 | Bo | neutral | Which | the red one or | the blue one ? | Show_S1E1: 00:00:04.4 - 00:00:05.29
3 | Ann | anger | Both . | Show_S1E1: 00:00:05.300 - 00:00:06.000
9 1

1 | Cy | neutral | Nothing happened . | Show_S1E2: 00:10:05.300 - 00:10:06.000
"""


@pytest.fixture(scope="module")
def ecf():
    return {split: read_split(ECF, split) for split in SPLITS}


def write(folder, text, name="train.txt"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n"])
def test_read_ecf_text(tmp_path, line_end, last):
    text = (CONVERSATIONS.rstrip("\n") + last).replace("\n", line_end)
    (tmp_path / "made.txt").write_bytes(text.encode())
    assert read_ecf_text(tmp_path / "made.txt") == [
        Dialogue(
            "12",
            (
                Utterance(
                    "dia12utt1",
                    "Ann",
                    "The kettle exploded !",
                    "surprise",
                    Clip("Show_S1E1", 3.42, 4.382),
                ),
                Utterance(
                    "dia12utt2",
                    "Bo",
                    "Which | the red one or | the blue one ?",
                    "neutral",
                    Clip("Show_S1E1", 4.4, 5.29),
                ),
                Utterance("dia12utt3", "Ann", "Both .", "anger", Clip("Show_S1E1", 5.3, 6.0)),
            ),
            ((0, 0), (2, 0)),
        ),
        Dialogue(
            "9",
            (
                Utterance(
                    "dia9utt1",
                    "Cy",
                    "Nothing happened .",
                    "neutral",
                    Clip("Show_S1E2", 605.3, 606.0),
                ),
            ),
            (),
        ),
    ]


@pytest.mark.parametrize(
    ("written", "clip"),
    [
        ("Show: S1: 00:21:16.441 - 00:21:17.858", Clip("Show: S1", 1276.441, 1277.858)),
        ("Show: 01:59:59.999 - 102:00:00.5", Clip("Show", 7199.999, 367200.5)),
        ("Show: 00:00:07.000 - 00:00:07.000", None),
        ("Show: 00:00:08.000 - 00:00:07.000", None),
        ("Show: 0:1.5 - 00:00:07.000", Clip("Show", 1.5, 7)),
        ("Show: 0:0:0:1 - 00:00:07.000", None),
    ],
)
def test_clips(tmp_path, written, clip):
    path = write(tmp_path, CONVERSATIONS.replace("Show_S1E1: 00:00:05.300 - 00:00:06.000", written))
    assert read_ecf_text(path)[0].utterances[2].clip == clip


@needs_ecf
def test_clips_of_the_benchmark(ecf):
    """Compares with an independent parse of the lines, in integer milliseconds."""
    for split in SPLITS:
        lines = (ECF / f"{split}.txt").read_text(encoding="utf-8").split("\n")
        written = [line.rsplit("|", 1)[1].strip() for line in lines if line.count("|") >= 4]
        utterances = [u for dialogue in ecf[split] for u in dialogue.utterances]
        without = 0
        for text, utterance in zip(written, utterances, strict=True):
            video, times = text.split(": ")
            start, end = (
                round(sum(float(x) * 60**k for k, x in enumerate(reversed(t.split(":")))) * 1000)
                for t in times.split(" - ")
            )
            clip = utterance.clip
            if start < end:
                assert clip.video == video
                assert (round(clip.start * 1000), round(clip.end * 1000)) == (start, end)
            else:
                without += clip is None
        assert without == sum(u.clip is None for u in utterances) == (split == "test")


def test_texts_may_contain_unicode_line_separators(tmp_path):
    path = write(tmp_path, CONVERSATIONS.replace("Both .", "Both \u2028 of \x85 them ."))
    assert read_ecf_text(path)[0].utterances[2].text == "Both \u2028 of \x85 them ."


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("12 3\n", "12 4\n", "6: expected utterance 4 of conversation 12 as"),
        (
            "12 3\n",
            "12 2\n",
            r"1: conversation 12: pair \(3,1\) points outside the conversation of 2",
        ),
        ("9 1\n", "4 | more\n9 1\n", "6: expected 'conversation-id number-of-utterances'"),
        (
            "9 1\n",
            "9 2\n",
            "8: the file ends within conversation 9, which has 2 utterances",
        ),
        ("9 1\n\n", "9 0\n\n", "6: conversation 9: conversation 9 has no utterance"),
        ("9 1\n\n", "9 1\n", "7: expected pairs such as"),
        ("9 1\n", "nine 1\n", "6: expected 'conversation-id number-of-utterances'"),
        ("9 1\n", "12 1\n", " conversation id 12 is duplicated"),
        (
            "2 | Bo",
            "3 | Bo",
            "4: found utterance '3' where number 2 of conversation 12 was expected",
        ),
        ("2 | Bo", "two | Bo", "4: found utterance 'two' where number 2"),
        ("| Bo |", "| |", "4: utterance 2 has no speaker"),
        ("| Both . |", "| |", "5: utterance 3 has no text"),
        ("| anger |", "|  |", "1: conversation 12: utterance 3 cannot have the emotion ''"),
        ("| anger |", "|", "5: expected utterance 3 of conversation 12 as"),
        ("(3,1),(1,1)", "(4,1)", r"1: conversation 12: pair \(4,1\) points outside"),
        ("(3,1),(1,1)", "(1,0)", r"1: conversation 12: pair \(1,0\) points outside"),
        ("(3,1),(1,1)", "(3,1)(1,1)", "2: expected pairs such as"),
        ("(3,1),(1,1)", "(3,1),", "2: expected pairs such as"),
        ("(3,1),(1,1)", "(3;1)", "2: expected pairs such as"),
        ("(3,1),(1,1)", "(3,-1)", "2: expected pairs such as"),
        (CONVERSATIONS, "", "1: expected 'conversation-id number-of-utterances'"),
    ],
)
def test_malformed_text_is_refused_in_one_line(tmp_path, old, new, message):
    assert CONVERSATIONS.count(old) == 1
    path = write(tmp_path, CONVERSATIONS.replace(old, new))
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}:{message}[^\n]*$"):
        read_ecf_text(path)


def test_a_file_truncated_within_a_conversation_is_refused(tmp_path):
    between = CONVERSATIONS.index("9 1\n")
    # A cut within the last time only loses milliseconds, and some lines have none.
    whole = [between, len(CONVERSATIONS)]
    harmless = {end - cut for end in whole for cut in range(4)}
    for end in sorted(set(range(len(CONVERSATIONS))) - harmless):
        path = write(tmp_path, CONVERSATIONS[:end])
        with pytest.raises(InputError, match=re.escape(str(path))):
            read_ecf_text(path)


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.txt: No such file"):
        read_ecf_text(tmp_path / "nowhere.txt")
    (tmp_path / "latin.txt").write_bytes(CONVERSATIONS.replace("Bo", "Bö").encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.txt: byte \d+ is not UTF-8"):
        read_ecf_text(tmp_path / "latin.txt")


def test_read_split_names_both_places_and_how_to_get_the_data(tmp_path):
    with pytest.raises(InputError) as refused:
        read_split(tmp_path, "dev")
    for part in (
        str(tmp_path / "dev.txt"),
        str(tmp_path / "Subtask_2_dev.json"),
        "git clone https://github.com/NUSTM/MECPE",
        "--config.data.root=MECPE/data",
    ):
        assert part in str(refused.value)
    write(tmp_path, CONVERSATIONS, "dev.txt")
    assert read_split(tmp_path, "dev") == read_ecf_text(tmp_path / "dev.txt")


@needs_ecf
@pytest.mark.parametrize(
    ("split", "conversations", "utterances", "pairs", "distance", "later", "longest", "without"),
    [
        ("train", 1001, 9966, 7055, 0.846, 276, 26, 66),
        ("dev", 112, 1087, 866, 0.984, 24, 22, 6),
        ("test", 261, 2566, 1873, 0.831, 80, 33, 17),
    ],
)
def test_counts_of_the_benchmark(
    ecf, split, conversations, utterances, pairs, distance, later, longest, without
):
    dialogues = ecf[split]
    lengths = [len(dialogue.utterances) for dialogue in dialogues]
    gold = np.array([pair for dialogue in dialogues for pair in dialogue.pairs])
    assert (len(dialogues), sum(lengths), max(lengths)) == (conversations, utterances, longest)
    assert len(gold) == pairs
    assert round(float(np.abs(gold[:, 0] - gold[:, 1]).mean()), 3) == distance
    assert int((gold[:, 1] > gold[:, 0]).sum()) == later
    assert sum(not dialogue.pairs for dialogue in dialogues) == without


@needs_ecf
def test_emotions_and_causes_of_the_benchmark(ecf):
    emotional = {"train": 5577, "dev": 668, "test": 1445}  # from its authors' README
    most_causes = 0
    without_cause = {}
    for split, dialogues in ecf.items():
        count = without_cause[split] = 0
        for dialogue in dialogues:
            caused = Counter(i for i, _ in dialogue.pairs)
            most_causes = max([most_causes, *caused.values()])
            for t, utterance in enumerate(dialogue.utterances):
                neutral = utterance.emotion == "neutral"
                assert not (neutral and t in caused)
                count += not neutral
                without_cause[split] += not neutral and t not in caused
        assert count == emotional[split]
    assert without_cause["train"] == 454
    assert most_causes == 8


@needs_ecf
def test_utterance_ids_are_the_keys_of_the_official_feature_tables(ecf):
    with (ECF / "video_id_mapping.npy").open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        # Lists the pickle's strings without executing it.
        strings = [argument for _, argument, _ in pickletools.genops(file.read())]
    keys = [s for s in strings if isinstance(s, str) and s.startswith("dia")]
    ids = [u.id for split in SPLITS for dialogue in ecf[split] for u in dialogue.utterances]
    assert len(keys) == len(ids) == 13619
    assert set(keys) == set(ids)


@needs_ecf
def test_the_clips_of_meld_are_those_of_all_utterances(tmp_path):
    names = read_meld_names(ECF)
    assert names["dia1utt4"] == "train_dia559_utt3"  # the example of the benchmark's README
    ids = {u.id for split in ("train", "dev", "test") for d in read_split(ECF, split)
           for u in d.utterances}  # fmt: skip
    assert len(ids) == 13_619
    assert len(names) == 13_389
    assert names.keys() <= ids
    assert read_meld_names(tmp_path) == {}
    (tmp_path / "all_data_pair_ECFvsMELD.txt").write_text(
        "1 2\n\n1 | A | joy | x | train_dia0_utt0\n"
    )
    with pytest.raises(InputError, match="the file ends within conversation 1"):
        read_meld_names(tmp_path)
