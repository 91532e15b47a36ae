"""Eight CPU devices and repeatable examples in every test, and the runs that test files share."""

import json
import os
from collections.abc import Callable
from pathlib import Path

# Set before the first import of JAX, which reads them.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()

# Compilation takes most of the tests' time, and LLVM's optimisations take half of the compilation.
# With 0, as `.ci/run` has it for the quick tests, the programs are those of users to the last bit.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import filelock
import pytest
from hypothesis import settings

from rpcl_jax.run.command_line import log_to_stderr
from rpcl_jax.run.compilation import cache_name, use_compilation_cache

# The commands that the tests run compile the same few programs, each for seconds.
use_compilation_cache(Path(__file__).resolve().parents[1] / ".pytest_cache" / cache_name())

log_to_stderr()  # as the commands do, so that tests see what users see

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_ignore_collect(collection_path):
    """Skips the modules that tests share: they have no doctests, and some import PyTorch."""
    if collection_path.suffix == ".py" and not collection_path.name.startswith("test_"):
        return True
    return None  # as pytest would


def pytest_collection_modifyitems(items):
    """Runs the longest files first, or one worker would end with one while the others idle."""
    ranks = {}
    for item in items:
        rank = 2 - bool(item.get_closest_marker("slow")) - bool(item.get_closest_marker("long"))
        ranks[item.path] = min(rank, ranks.get(item.path, rank))
    items.sort(key=lambda item: ranks[item.path])


def made_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """Returns a folder that the first worker of pytest-xdist to ask for it fills with `make`."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, made = root / f"shared-{name}", root / f"shared-{name}.made"
    with filelock.FileLock(f"{folder}.lock"):
        if not made.exists():
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a finished run of `tiny_config`, trained by the command; do not write there."""
    # Imported here because it imports JAX.
    from shared import run_main, tiny_flags

    def train(folder):
        done = run_main(*tiny_flags(), f"--workdir={folder / 'run'}")
        assert "test Pair F1" in done.stdout
        assert done.stderr.count("validation Pair F1") == 3, "plain lines, one per epoch"
        # No library's notes among them.
        assert {line.split()[0] for line in done.stderr.splitlines()} <= {
            "training",
            "epoch",
            "compiling",
        }

    return made_once(tmp_path_factory, "finished", train) / "run"


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory):
    """The test split of `finished` without labels, in a file; its features are beside it."""
    from shared import tiny_config

    from rpcl_jax.readers.corpus import load_corpus
    from rpcl_jax.readers.semeval import conversation_object

    folder = tmp_path_factory.mktemp("input")
    corpus = load_corpus(tiny_config())
    conversations = [
        conversation_object(dialogue) | {"note": "kept"} for dialogue in corpus.splits["test"]
    ]
    path = folder / "conversations.json"
    path.write_text(json.dumps(conversations))
    for name, table in corpus.tables.items():
        table.save(folder / "features" / name)
    return path


@pytest.fixture(scope="session")
def reads_text(tmp_path_factory):
    """The folder of a finished run that reads text alone; do not write there."""
    from shared import run_main, tiny_flags

    flags = [*tiny_flags(), "--config.modalities=t", "--config.epochs=1"]
    return made_once(
        tmp_path_factory,
        "reads-text",
        lambda folder: run_main(*flags, f"--workdir={folder / 'text'}"),
    ) / "text"  # fmt: skip


@pytest.fixture(scope="session")
def small_bert(tmp_path_factory):
    """A small random BERT over the words of the tiny corpus, as save_pretrained writes it."""
    from shared import import_or_skip, tiny_config

    torch = import_or_skip("torch")
    from transformers import BertConfig, BertModel

    from rpcl_jax.batching.text import word_tokenizer
    from rpcl_jax.readers.corpus import load_corpus

    folder = tmp_path_factory.mktemp("bert")
    tokenizer = word_tokenizer(load_corpus(tiny_config()).splits["train"])
    tokenizer.save(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 64, "max_position_embeddings": 64}
    BertModel(BertConfig(vocab_size=tokenizer.size, **sizes)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ray():
    """The module ray, started as the commands start it."""
    from rpcl_jax.cluster.start import start_ray

    ray = start_ray(None)
    yield ray
    ray.shutdown()
