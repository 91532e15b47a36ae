"""Recipes of CONTRIBUTING.md, followed to the letter in copies of the code."""

import shutil
import subprocess
import sys

import pytest
from shared import ENVIRONMENT, ROOT

# What the recipes ask for, in their order: (file, a line that is there, what is written below it);
# without a line, the file is new.
OBJECTIVE = [
    (
        "rpcl_jax/run/base_config.py",
        '    "no_top_k": {"top_k": 0},\n',
        '    "penalty": _NO_RANKING | _NO_CORRUPTION | {"penalty_weight": 0.1},\n',
    ),
    (
        "tests/test_objective.py",
        '    "no_top_k": (True, "adaptive", "all", "protected", True, True),\n',
        '    "penalty": (False, None, None, None, False, False, {"penalty_weight": 0.1}),\n',
    ),
    (
        "rpcl_jax/reporting/figures.py",
        '    "no_top_k": "#F0E442",\n',
        '    "penalty": "#123456",\n',
    ),
    (
        "rpcl_jax/losses.py",
        "from rpcl_jax.shapes import check_shapes\n",
        """

def penalty_loss(pair_logits, candidate_mask, *, axis_name=None):
    \"\"\"Returns 1/|V| Σ_V p².\"\"\"
    candidates = candidate_mask.astype(bool)
    p = pair_confidence(_fill(pair_logits, candidates))
    return _masked_mean(jnp.square(p), candidates, axis_name)
""",
    ),
    (
        "rpcl_jax/run/base_config.py",
        "    c.rpcl.alignment_weight = 0.2  # λ_ali\n",
        "    c.rpcl.penalty_weight = 0.0\n",
    ),
    (
        "rpcl_jax/objective.py",
        "    alignment_weight: float  # λ_ali\n",
        "    penalty_weight: float = 0.0\n",
    ),
    (
        "rpcl_jax/objective.py",
        '        loss += terms["stability"]\n',
        """\
    if objective.penalty_weight:
        terms["penalty"] = losses.penalty_loss(
            clean.pair_logits, batch.candidate_mask, axis_name=axis_name
        )
        loss += objective.penalty_weight * terms["penalty"]
""",
    ),
    (
        "tests/reference.py",
        "# The reference: what the equations say, one candidate at a time.\n",
        """

def reference_penalty(batch):
    pairs = zip(batch["pair"][batch["candidates"]], strict=True)
    return np.mean([softmax(logits)[1] ** 2 for (logits,) in pairs])
""",
    ),
    ("tests/test_objective.py", "    reference_cross_entropy,\n", "    reference_penalty,\n"),
    (
        "tests/test_objective.py",
        '        "stability": reference_ccps(x, x["pair"], *weights),\n',
        '        "penalty": reference_penalty(x),\n',
    ),
    (
        "tests/test_objective.py",
        '    loss = terms["supervised"] + objective.row_weight * terms["ranking"]'
        ' + terms["stability"]\n',
        '    loss += objective.penalty_weight * terms["penalty"]\n',
    ),
    (
        "tests/test_objective.py",
        "    objective = Objective(0.7, 0.4, True, 2, 0.6, protect, 0.35, 1.5)\n",
        "    objective = objective._replace(penalty_weight=0.9)\n",
    ),
]
READER = [
    (
        "rpcl_jax/readers/toy.py",
        "",
        """\
from rpcl_jax.data.dialogue import Dialogue, Utterance, check_dialogue
from rpcl_jax.readers.benchmark_files import ReadLog, find_split

_FILES = {split: [f"toy_{split}.txt"] for split in ("train", "test")} | {"dev": ["toy_val.txt"]}


def read_split(root, split):
    path = find_split(root, _FILES, split, "download TOY")
    log = ReadLog(str(path))

    def parse(line, place, number):
        name, emotion, cause, text = line.split(" ", 3)
        utterance = Utterance(f"{name}_1", "Ann", text, log.emotion(emotion))
        pairs = log.unique_pairs(2 * [(0, int(cause) - 1)])
        return check_dialogue(Dialogue(name, (utterance,), pairs), place)

    return log.dialogues(path.read_text(encoding="utf-8").splitlines(), parse)
""",
    ),
    (
        "rpcl_jax/readers/corpus.py",
        "from rpcl_jax.readers import conversations, ecf, mec4, mecad, reccon\n",
        "from rpcl_jax.readers import toy\n",
    ),
    (
        "rpcl_jax/readers/corpus.py",
        '    "reccon": reccon.read_split,\n',
        '    "toy": toy.read_split,\n',
    ),
    (
        "configs/toy.py",
        "",
        """\
from configs import demo


def get_config(objective="rpcl"):
    c = demo.get_config(objective)
    c.data.update({"name": "toy", "format": "toy", "root": "data/TOY"})
    c.modalities = "t"
    return c
""",
    ),
    (
        "tests/readers/test_toy.py",
        "",
        """\
import pytest

from rpcl_jax.data.dialogue import Dialogue, Utterance
from rpcl_jax.errors import InputError
from rpcl_jax.readers.corpus import READERS


def test_toy(tmp_path, capsys):
    (tmp_path / "toy_val.txt").write_text("7 happines 1 Oh!\\n")
    utterance = Utterance("7_1", "Ann", "Oh!", "joy")
    assert READERS["toy"](tmp_path, "dev") == [Dialogue("7", (utterance,), ((0, 0),))]
    assert "1 repetitions of pairs left out" in capsys.readouterr().err


def test_toy_without_the_cause(tmp_path):
    (tmp_path / "toy_val.txt").write_text("7 joy 2 Oh!\\n")
    with pytest.raises(InputError, match="toy_val.txt: conversation number 1"):
        READERS["toy"](tmp_path, "dev")
""",
    ),
]
FAMILY = [  # ERNIE is BERT, to which some models add an embedding of the task
    (
        "rpcl_jax/models/families.py",
        "FAMILIES: dict[str, Family] = {\n",
        '    "ernie": Family("ernie.", required=_ABSOLUTE | {"use_task_id": (False, False)}),\n',
    ),
    ("tests/models/test_text_encoder.py", '    "bert": {},\n', '    "ernie": {},\n'),
    (
        "tests/small_encoders.py",
        '    "bert": transformers.BertTokenizer,\n',
        '    "ernie": transformers.BertTokenizer,\n',
    ),
    (
        "tests/models/test_pretrained.py",
        '        ("electra", {"is_decoder": True}, "is_decoder True"),\n',
        '        ("ernie", {"use_task_id": True}, "use_task_id True"),\n',
    ),
]
EXTRACTOR = [
    (
        "rpcl_jax/extraction/extractors.py",
        "_AT_ONCE = 32  # frames per batch\n",
        """

def _load_level(name, revision):
    def embed(sounds):
        return np.array([[abs(samples).mean()] for samples in sounds], np.float32)

    return Extractor("audio", _describe("level", name, "1", 1), _listen, embed)
""",
    ),
    (
        "rpcl_jax/extraction/extractors.py",
        '    "clip": "openai/clip-vit-large-patch14",\n',
        '    "level": "mean",\n',
    ),
    (
        "rpcl_jax/extraction/extractors.py",
        '        "clip": _load_clip,\n',
        '        "level": _load_level,\n',
    ),
    (
        "tests/extraction/test_extractors.py",
        'COMMIT = "0123456789abcdef0123456789abcdef01234567"\n',
        """

def test_level(sounds):
    extractor = load_extractor("level")
    for span in sounds:
        with wave.open(str(span.path)) as file:
            samples = np.frombuffer(file.readframes(1 << 20), np.int16)
        (row,) = extractor.embed([extractor.read(span)])
        np.testing.assert_allclose(row, [abs(samples / 2**15).mean()], rtol=1e-5)
""",
    ),
]
# With the tests that try what was added, and those that name what there is.
RECIPES = {
    "objective": (
        OBJECTIVE,
        "tests/test_objective.py tests/run/test_config.py tests/reporting/test_figures.py",
        "table or every_number or papers or weight or colour",
    ),
    "reader": (
        READER,
        "tests/readers/test_toy.py tests/readers/test_benchmark_files.py tests/run/test_config.py",
        "toy or shipped",
    ),
    "family": (
        FAMILY,
        "tests/models/test_text_encoder.py tests/models/test_pretrained.py "
        "tests/models/test_load_tokenizer.py tests/test_encoder_families.py",
        "ernie",
    ),
    "extractor": (EXTRACTOR, "tests/extraction/test_extractors.py", "level or refused"),
}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe(recipe, tmp_path):
    changes, tests, about = RECIPES[recipe]
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *tests.split(), "-k", about]
    for name in ("rpcl_jax", "configs", "tools", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, line, below in changes:
        path = tmp_path / name
        text = path.read_text(encoding="utf-8") if line else ""
        assert text.count(line) == 1, (name, line)
        path.write_text(text.replace(line, line + below), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path, env=ENVIRONMENT | {"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
