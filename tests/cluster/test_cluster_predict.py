"""Prediction of a corpus with a real Ray, and what one worker does with a file."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from shared import (
    ENVIRONMENT,
    ROOT,
    assert_one_line,
    assert_same_pairs,
    import_or_skip,
    run_main,
    tiny_config,
    write_lines,
)

fs = import_or_skip("pyarrow.fs")

from rpcl_jax.cluster import predict
from rpcl_jax.cluster.filesystems import matching, readable, whole
from rpcl_jax.data.synthetic import generate_corpus
from rpcl_jax.errors import InputError
from rpcl_jax.predict import Predictor
from rpcl_jax.run.config import to_json
from rpcl_jax.run.model_folder import LAYOUT, LIBRARY

LOCAL = fs.LocalFileSystem()
THRESHOLD = 0.2
DIALOGUES = generate_corpus(3, sizes={"train": 60})[0]["train"]
OURS = [
    {"utterances": [{"speaker": u.speaker, "text": u.text} for u in d.utterances]}
    for d in DIALOGUES
]


def conversations(count):
    return [{"id": k, **OURS[k % len(OURS)]} for k in range(count)]


def read_lines(path):
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        return [json.loads(line) for line in file]


def workers(mark):
    """The ids of the processes that Ray started for a command with this mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::MapWorker"):
                found += [int(folder.name)] * (mark.encode() in (folder / "environ").read_bytes())
        except OSError:  # it has ended
            continue
    return found


@pytest.fixture(scope="module")
def predictor(reads_text):
    return Predictor(reads_text, THRESHOLD)


@pytest.mark.slow
@pytest.mark.long
def test_a_corpus_on_ray_whose_worker_is_killed(reads_text, predictor, tmp_path):
    corpus, output, many = tmp_path / "corpus", tmp_path / "output", conversations(600)
    write_lines(corpus / "a.jsonl", many)
    write_lines(corpus / "deep/b.jsonl.gz", [*many[:20], {"id": 5, "utterances": []}, "{\n"])
    (corpus / "c.json").write_text(json.dumps(many[:7]))
    write_lines(corpus / "d.jsonl", many[:3])
    write_lines(output / "d.jsonl", ["finished before\n"])
    mark = uuid.uuid4().hex
    command = [
        *(sys.executable, "-m", "rpcl_jax.main", "--mode=predict", "--engine=ray"),
        *(f"--workdir={reads_text}", f"--input={corpus}", f"--output={output}"),
        f"--threshold={THRESHOLD}",
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT | {"MARK": mark, "HOME": "/proc/nosuch"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while process.poll() is None and not list(output.glob("a.jsonl.*.tmp")):
        time.sleep(0.02)
    (worker,) = workers(mark)
    os.kill(worker, signal.SIGKILL)
    printed, errors = process.communicate(timeout=240)
    assert process.returncode == 1
    assert (output / "d.jsonl").read_text() == "finished before\n"
    names = {str(p.relative_to(output)) for p in output.rglob("*") if p.is_file()}
    assert names == {
        *("a.jsonl", "deep/b.jsonl.gz", "c.json.jsonl", "d.jsonl", "rejected.jsonl"),
        *(".lock", ".rejected/deep/b.jsonl.gz.jsonl"),
    }
    wanted = predictor(many)
    assert_same_pairs(read_lines(output / "a.jsonl"), wanted)
    assert read_lines(output / "a.jsonl")[0]["predicted_by"]["threshold"] == THRESHOLD
    assert_same_pairs(read_lines(output / "deep/b.jsonl.gz"), wanted[:20])
    assert_same_pairs(read_lines(output / "c.json.jsonl"), wanted[:7])
    rejected = read_lines(output / "rejected.jsonl")
    assert {item["file"] for item in rejected} == {"deep/b.jsonl.gz"}
    assert [item["place"] for item in rejected] == [f"deep/b.jsonl.gz:{k}" for k in (21, 22)]
    assert "no utterance" in rejected[0]["reason"]
    *progress, last = errors.strip().splitlines()
    assert all("utterances/s" in line for line in progress), errors
    assert last == (
        f"rpcl_jax: {corpus}: 2 conversations cannot be read, listed in {output}/rejected.jsonl"
    )
    assert "raylet" not in printed

    # Run again, everything is there, and what was rejected still is.
    before = (output / "a.jsonl").stat().st_mtime_ns
    done = run_main(*command[3:], status=1)
    assert_one_line(done, "2 conversations cannot be read")
    assert done.stdout.startswith(f"4 of 4 files are already in {output}\n")
    assert (output / "a.jsonl").stat().st_mtime_ns == before


@pytest.fixture(params=["local", "store"])
def corpus(request, tmp_path):
    """A corpus in a folder, as such or as it were in an object store."""
    write_lines(tmp_path / "in/good.jsonl", conversations(5))
    write_lines(tmp_path / "in/bad.jsonl", [*conversations(4), {"id": 9, "utterances": []}])
    packed = gzip.compress("".join(json.dumps(c) + "\n" for c in conversations(500)).encode())
    (tmp_path / "in/broken.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "out").mkdir()
    if request.param == "local":
        return predict._Corpus(LOCAL, f"{tmp_path}/in", LOCAL, f"{tmp_path}/out")
    store = fs.SubTreeFileSystem(str(tmp_path), LOCAL)
    store.create_dir("out/.rejected")
    return predict._Corpus(store, "in", store, "out")


OUTPUTS = ["good.jsonl", "bad.jsonl", "broken.jsonl.gz"]


@pytest.mark.slow
def test_what_a_worker_makes_of_a_file(predictor, corpus, tmp_path):
    def run(name, strict=False):
        worker = predict._FilePredictor(
            lambda: predictor, corpus, strict, True, None, lambda name: 1
        )
        return json.loads(worker({"name": name})["json"])

    def outputs():
        return {p.name for p in (tmp_path / "out").iterdir() if p.is_file()}

    assert run("good.jsonl")["done"][:2] == [5, sum(len(c["utterances"]) for c in conversations(5))]
    assert [c["id"] for c in read_lines(tmp_path / "out/good.jsonl")] == list(range(5))
    assert outputs() == {"good.jsonl"}
    assert run("good.jsonl") == {}, "it is there"

    assert "bad.jsonl:5" in run("bad.jsonl", strict=True)["error"]
    assert "bad.jsonl" not in outputs()
    assert run("bad.jsonl")["done"][-1] == 1
    [line] = read_lines(tmp_path / "out/.rejected/bad.jsonl.jsonl")
    assert (line["file"], line["place"]) == ("bad.jsonl", "bad.jsonl:5")
    assert str(tmp_path) not in line["reason"]

    # A file that breaks off is not finished: the next run, on the whole file, makes up for it.
    run("broken.jsonl.gz")
    assert "broken.jsonl.gz" not in outputs()
    assert "damaged" in read_lines(tmp_path / "out/.rejected/broken.jsonl.gz.jsonl")[0]["reason"]
    assert predict._collect_rejected(corpus, OUTPUTS) == 2
    assert len(read_lines(tmp_path / "out/rejected.jsonl")) == 2
    write_lines(tmp_path / "in/broken.jsonl.gz", conversations(3))
    assert run("broken.jsonl.gz")["done"][0] == 3
    assert predict._collect_rejected(corpus, OUTPUTS) == 1
    os.remove(tmp_path / "out/bad.jsonl")
    write_lines(tmp_path / "in/bad.jsonl", conversations(3))
    run("bad.jsonl")
    assert predict._collect_rejected(corpus, OUTPUTS) == 0
    assert not (tmp_path / "out/rejected.jsonl").exists()


@pytest.mark.slow
@pytest.mark.long
def test_a_file_that_kills_its_workers_is_given_up(ray, tmp_path, monkeypatch):
    class Killed(predict._FilePredictor):  # local, so that the workers need not import this file
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self._predictor, self.max_utterances = lambda: self, 35

        def stream(self, found, own_causes):
            for place, item in found:
                if "too large" in place:
                    with open(f"{folder}/deaths", "a") as file:
                        file.write(".")
                    os.kill(os.getpid(), signal.SIGKILL)
                yield place, item | {"pair_confidences": []}

        def doubts(self):
            return {}

    folder = str(tmp_path)
    (tmp_path / "out").mkdir()
    corpus = predict._Corpus(LOCAL, f"{folder}/in", LOCAL, f"{folder}/out")
    names = ["a.jsonl", "too large.jsonl", "z.jsonl"]
    for name in names:
        write_lines(tmp_path / "in" / name, conversations(2))
    monkeypatch.setattr(predict, "_FilePredictor", Killed)
    results = list(predict._results(ray, (dict, corpus, False, True, None), names))
    assert sorted(result["done"][0] for result in results if "done" in result) == [2, 2]
    assert (tmp_path / "deaths").read_text() == "..."
    assert len(read_lines(tmp_path / "out/a.jsonl")) == len(read_lines(tmp_path / "out/z.jsonl"))
    assert predict._collect_rejected(corpus, names) == 1
    [line] = read_lines(tmp_path / "out/rejected.jsonl")
    assert (line["file"], line["reason"][:14]) == ("too large.jsonl", "3 workers died")
    assert not (tmp_path / "out/too large.jsonl").exists()

    [result] = predict._results(ray, (dict, corpus, True, True, None), ["too large.jsonl"])
    assert result["error"].startswith("too large.jsonl: 3 workers died")


def test_files_that_match(tmp_path, monkeypatch):
    for name in (
        "a.jsonl",
        "b.jsonl.gz",
        "[c].json",
        "x/a.jsonl",
        "y/a.jsonl",
        ".hidden/a.jsonl",
        "x.md",
    ):
        write_lines(tmp_path / name, [])

    def names(pattern):
        filesystem, folder, found = matching(pattern)
        for name in found:
            assert filesystem.get_file_info(f"{folder}/{name}").is_file
        return found

    assert names(f"{tmp_path}/*.jsonl") == ["a.jsonl"]
    assert names(f"{tmp_path}/?.jsonl*") == ["a.jsonl", "b.jsonl.gz"]
    assert names(f"{tmp_path}/*/a.jsonl") == ["x/a.jsonl", "y/a.jsonl"]
    assert names(f"file://{tmp_path}/x/*") == ["a.jsonl"]
    assert names(f"{tmp_path}/x/a.jsonl") == ["a.jsonl"]
    assert names(f"{tmp_path}/[[]c].json") == ["[c].json"]
    assert names(str(tmp_path)) == ["[c].json", "a.jsonl", "b.jsonl.gz", "x/a.jsonl", "y/a.jsonl"]
    monkeypatch.chdir(tmp_path)
    assert names("x/*.jsonl") == names("./x") == ["a.jsonl"]
    assert names("*.jsonl") == ["a.jsonl"]
    assert names("nosuch/*") == names("nosuch") == []
    with pytest.raises(InputError, match="nosuch://bucket: cannot be opened"):
        matching("nosuch://bucket/*.jsonl")


@pytest.mark.parametrize("store", [False, True])
def test_a_file_is_written_whole_or_not_at_all(store, tmp_path):
    filesystem = fs.SubTreeFileSystem(str(tmp_path), LOCAL) if store else LOCAL
    path = "x" if store else f"{tmp_path}/x"

    def fail():
        with whole(filesystem, path) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with whole(filesystem, path) as file:
        file.write(b"all of it")
    with readable(filesystem, path) as copy:
        assert copy.read_bytes() == b"all of it"


def test_bad_usage(tmp_path, capsys):
    """Each is found out before Ray is started, and nothing is written."""
    import_or_skip("ray")
    run, corpus = tmp_path / "run", tmp_path / "in"
    run.mkdir()
    names = ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size")
    model = {"library_name": LIBRARY, "layout": LAYOUT, "emotions": [], "feature_tables": {}}
    model |= {"encoder": dict.fromkeys((*names, "max_positions"), 8), "run": to_json(tiny_config())}
    (run / "config.json").write_text(json.dumps(model))
    write_lines(corpus / "x.json", [])
    (tmp_path / "file").write_text("")

    def fails(message, source=corpus, output=tmp_path / "out"):
        with pytest.raises(InputError, match=message):
            predict.predict_corpus(run, str(source), str(output), "localhost:1")
        assert not (tmp_path / "out").exists()

    fails("nobody answers")
    fails("no such file", source=f"{corpus}/*.txt")
    fails("is a file", output=tmp_path / "file")
    fails("is inside the folder of the input", output=corpus)
    write_lines(corpus / "x.json.jsonl", [])
    fails("x.json.jsonl; rename one")
    write_lines(corpus / "rejected.jsonl", [])  # an earlier output
    fails("written over the list of what is rejected", source=f"{corpus}/*.jsonl")
    assert capsys.readouterr().err == ""
    model["feature_tables"] = {"audio": {"dimension": 3}}
    (run / "config.json").write_text(json.dumps(model))
    fails("nobody answers", source=f"{corpus}/x.json")
    assert "no audio given" in capsys.readouterr().err
    (run / "config.json").unlink()
    fails("is .* the folder of a run")
