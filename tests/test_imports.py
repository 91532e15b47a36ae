"""Training and prediction from tables need no package of the extra `features`.

Nor do they need what Windows lacks, as far as that can be taken away from a process on Linux.
"""

import re
import subprocess
import sys
import tomllib

import pytest
from shared import ENVIRONMENT, ROOT

FORBIDDEN = ("torch", "av", "opensmile", "PIL")
POSIX = ("fcntl", "grp", "pwd", "resource", "termios", "uvloop")  # modules
CODE = f"""
import asyncio, json, os, signal, sys
from pathlib import Path
import filelock, subprocess  # which do on Windows without what is taken away here

for name in {FORBIDDEN + POSIX}:
    sys.modules[name] = None  # to import it is an ImportError now, and nobody can find it

asyncio.new_event_loop().close()  # Python 3.14 chooses by the platform, at the first use

sys.path.insert(0, "tests")
import rpcl_jax.main
from rpcl_jax.readers.semeval import conversation_object
from rpcl_jax.data.synthetic import generate_corpus
from rpcl_jax.predict import predict_file
from rpcl_jax.run.allocator import restart_keeping_memory
from rpcl_jax.run.workdir import locked_run
from rpcl_jax.train import train_and_evaluate
from shared import tiny_config

folder = Path(sys.argv[1])
for module, names in (
    (os, "fork forkpty getuid getpgid killpg setsid sysconf uname O_DIRECTORY"),
    (signal, "SIGKILL SIGHUP SIGALRM pthread_kill alarm"),
):
    for name in names.split():
        delattr(module, name)
sys.platform = "win32"
restart_keeping_memory()
config = tiny_config()
assert config.modalities == "tav"
with locked_run(folder / "run"):
    try:
        train_and_evaluate(config, folder / "run")
    except ValueError as error:
        assert "another process is training" in str(error)
    else:
        raise AssertionError("two processes train in one folder")
train_and_evaluate(config, folder / "run")
splits, tables = generate_corpus(config.data.seed, sizes=config.data.sizes.to_dict())
for modality, table in tables.items():
    table.save(folder / "features" / modality)
conversations = []
for dialogue in splits["test"]:
    conversations.append(conversation_object(dialogue))
    for utterance, turn in zip(dialogue.utterances, conversations[-1]["conversation"]):
        turn["video_name"] = utterance.id + ".mp4"
(folder / "in.json").write_text(json.dumps(conversations))
predict_file(folder / "run", folder / "in.json", folder / "out.json", features=folder / "features")
assert len(json.loads((folder / "out.json").read_text())) == len(conversations) > 0
assert all(sys.modules[name] is None for name in {FORBIDDEN + POSIX})
print("needs none of them")
"""


@pytest.mark.slow
def test_training_and_prediction_from_tables(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "needs none of them" in done.stdout, done.stderr


def test_the_list_is_that_of_the_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = project["optional-dependencies"]["features"]
    core = (ROOT / "requirements.txt").read_text().splitlines()
    packages, everywhere = ({re.split(">=", line)[0] for line in of} for of in (extra, core))
    assert {"PIL" if p == "pillow" else p for p in packages - everywhere} == set(FORBIDDEN)
