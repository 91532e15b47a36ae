"""Trains the model that comes with the package again and compares it with what is shipped.

    python results/pretrained.py --config=ecf_reccon --config.data.root=ECF,RECCON \\
        --config.text.pretrained=ENCODER

trains in runs/pretrained, unless that is finished (flags as for rpcl_jax.main), prints the largest
difference of a parameter and the scores, and fails where these differ by more than a point. --ship
writes rpcl_jax/pretrained anew instead.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import config_flags
from safetensors.numpy import load_file

from rpcl_jax.errors import InputError
from rpcl_jax.files import read_json, write_json
from rpcl_jax.reporting.model_card import model_card
from rpcl_jax.run.command_line import require_config, run_command
from rpcl_jax.run.export import export_run
from rpcl_jax.run.model_folder import PACKAGED
from rpcl_jax.train import train_and_evaluate

# Where everybody finds the encoder, whose digest config.json has.
ENCODER = {
    "name": "sentence-transformers/all-MiniLM-L6-v2",
    "revision": "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
}
# What the card says otherwise than that of another run.
_OF_CARD = {
    'Predictor("rpcl_jax/pretrained")  # this folder, or its name on the Hugging Face hub': (
        "Predictor()"
    ),
    "rpcl predict --model=rpcl_jax/pretrained --input=conversations.json --output=pairs.json": (
        "rpcl predict talk.vtt"
    ),
    "Text encoder: all-MiniLM-L6-v2": f"Text encoder: {ENCODER['name']}",
    "Choose a licence that the benchmark and the text encoder allow, and name it above as "
    "`license:`.\n": "For research: the terms of ECF and RECCON, above, apply. The text encoder is "
    "under Apache-2.0.\n",
    "library_name: rpcl_jax\n": (
        f"library_name: rpcl_jax\nlanguage: en\nbase_model: {ENCODER['name']}\n"
    ),
    "- Reads text.": "- Reads text, in English.",
}
_TOLERANCE = 1.0  # points, between machines whose sums are rounded otherwise
SCORES = ("pair_f1", "pair_auprc", "weighted_f1", "emotion_f1")

_CONFIG = config_flags.DEFINE_config_file("config", help_string="ecf_reccon.")
_RUN = flags.DEFINE_string("run", "runs/pretrained", "The folder of the run.")
_SHIP = flags.DEFINE_bool("ship", False, "Write rpcl_jax/pretrained.")


def _reproduce() -> None:
    run = Path(_RUN.value)
    result = train_and_evaluate(_CONFIG.value, run)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / PACKAGED.name
        card = model_card(run, "rpcl_jax/pretrained", with_encoder=False)
        for general, own in _OF_CARD.items():
            assert general in card, general
            card = card.replace(general, own)
        export_run(run, made, card, with_encoder=False)
        described = read_json(made / "config.json")
        described["encoder_elsewhere"] |= ENCODER
        described["run"]["text"]["pretrained"] = ENCODER["name"]
        write_json(made / "config.json", described)
        numbers = {corpus: of["test"] for corpus, of in result["corpora"].items()}
        write_json(made / "scores.json", numbers, indent=1)
        if _SHIP.value:
            shutil.copytree(made, PACKAGED, dirs_exist_ok=True)
            print(f"{PACKAGED}: {sum(f.stat().st_size for f in PACKAGED.iterdir()) / 1e6:.1f} MB")
            return
        new, shipped = (load_file(at / "model.safetensors") for at in (made, PACKAGED))
        furthest = max(np.abs(new[name] - shipped[name]).max() for name in new | shipped)
        print(f"{run} and {PACKAGED}: largest difference of a parameter {furthest:.2g}")
        for corpus, before in read_json(PACKAGED / "scores.json").items():
            for score in SCORES:
                now, then = 100 * numbers[corpus][score], 100 * before[score]
                print(f"{corpus} test {score}: {now:.2f}, shipped {then:.2f}")
                if abs(now - then) > _TOLERANCE:
                    raise InputError(f"{corpus}: {score} differs by more than {_TOLERANCE} points")


if __name__ == "__main__":
    run_command("pretrained", _reproduce, lambda: require_config(_CONFIG))
