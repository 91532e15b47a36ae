"""Table 1 from the command line; pytest needs a name that differs from that in tests/data."""

import csv
import json

from shared import ECF, MECAD, needs_ecf, needs_mecad, run_python, write_lines

from configs import demo
from rpcl_jax.readers.corpus import load_splits

HEADER = [
    *("benchmark", "split", "conversations", "utterances", "emotional utterances", "pairs"),
    "mean pair distance",
]


def run(*arguments, status=0):
    return run_python("tools/corpus_statistics.py", *arguments, status=status)


def cells(markdown):
    lines = [line.strip("|").split("|") for line in markdown.splitlines()]
    return [[cell.strip() for cell in line] for line in lines]


@needs_ecf
def test_ecf_is_as_its_authors_count_it(tmp_path):
    """../shared/data/README.md, and the emotional utterances of NUSTM/MECPE's README."""
    table = tmp_path / "table1.csv"
    done = run("--config=configs/ecf.py", f"--config.data.root={ECF}", f"--csv={table}")
    header, _, *rows = cells(done.stdout)
    assert header == HEADER
    assert rows[:3] == [
        ["ECF", "train", "1001", "9966", "5577", "7055", "0.846"],
        ["ECF", "dev", "112", "1087", "668", "866", "0.984"],
        ["ECF", "test", "261", "2566", "1445", "1873", "0.831"],
    ]
    distance = (7055 * 0.846 + 866 * 0.984 + 1873 * 0.831) / 9794
    assert rows[3][:-1] == ["ECF", "total", "1374", "13619", "7690", "9794"]
    assert abs(float(rows[3][-1]) - distance) < 0.001
    with table.open(newline="", encoding="utf-8") as file:
        written = list(csv.reader(file))
    assert written[0] == HEADER
    assert [[*row[:-1], f"{float(row[-1]):.3f}"] for row in written[1:]] == rows


def test_a_corpus_counted_by_hand():
    sizes = {"train": 5, "dev": 4, "test": 3}
    flags = [f"--config.data.sizes.{split}={n}" for split, n in sizes.items()]
    rows = cells(run("--config=configs/demo.py", *flags).stdout)[2:]
    config = demo.get_config()
    config.data.sizes = sizes
    splits = load_splits(config)
    for row, split in zip(rows, sizes, strict=False):
        emotions = [u.emotion for d in splits[split] for u in d.utterances]
        assert row[:5] == [
            *("synthetic", split, str(sizes[split]), str(len(emotions))),
            str(len(emotions) - emotions.count("neutral")),
        ]
    assert [row[1] for row in rows] == ["train", "dev", "test", "total"]
    for column in range(2, 6):
        *parts, total = (int(row[column]) for row in rows)
        assert total == sum(parts) > 0


@needs_mecad
def test_the_one_split_of_mecad_that_is_here():
    """Counted anew from the file, knowing nothing of the reader."""
    conversations = json.loads((MECAD / "valid_data_pair.json").read_text(encoding="utf-8"))
    turns = [turn for (of,) in conversations.values() for turn in of]
    distances = [
        abs(turn["turn"] - cause)
        for turn in turns
        for cause in turn.get("expanded emotion cause evidence", [])
    ]
    done = run("--config=configs/mecad.py", f"--config.data.root={MECAD}", "--splits=dev")
    _, _, *rows = cells(done.stdout)
    counted = [
        *(len(conversations), len(turns), sum(turn["emotion"] != "Neutral" for turn in turns)),
        *(len(distances), f"{sum(distances) / len(distances):.3f}"),
    ]
    assert counted[:4] == [126, 1168, 744, 977]
    assert rows == [["MECAD", name, *map(str, counted)] for name in ("dev", "total")]


def test_what_cannot_be_counted_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    table = tmp_path / "file/table.csv"
    for status, arguments, message in (
        (2, [], "statistics: --config is required"),
        (2, ["--config=configs/nosuch.py"], "statistics: "),
        (2, ["--config=configs/demo.py", "--config.sead=1"], "statistics: "),
        (
            *(1, ["--config=configs/demo.py", f"--csv={table}"]),
            f"statistics: {tmp_path / 'file'}: is a file, so nothing can be written",
        ),
        (
            *(1, ["--config=configs/ecf.py", "--config.data.root=nowhere"]),
            "statistics: nowhere/train.txt and nowhere/Subtask_2_train.json and",
        ),
    ):
        refused = run(*arguments, status=status).stderr
        assert refused.startswith(message)
        assert refused.count("\n") == 1


def test_emotions_that_are_no_class_are_counted_as_in_training(tmp_path):
    for split, emotion in (("train", "joy"), ("dev", "joy"), ("test", "contempt")):
        turn = {"speaker": "A", "text": "Great!"}
        lines = [
            {"id": f"{split}{k}", "utterances": [turn | {"emotion": e}], "pairs": []}
            for k, e in enumerate(("joy", emotion))
        ]
        write_lines(tmp_path / f"{split}.jsonl", lines)
    flags = ["--config=configs/demo.py", "--config.data.format=conversations"]
    flags.append(f"--config.data.root={tmp_path}")
    assert "'contempt' is not one of the classes" in run(*flags, status=1).stderr
    done = run(*flags, "--config.data.unknown_emotion=skip")
    assert [row[2] for row in cells(done.stdout)[2:]] == ["2", "2", "1", "5"]
