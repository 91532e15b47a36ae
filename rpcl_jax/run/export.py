"""A trained run as one folder that can be given to others, in the layout of the Hugging Face hub.

It is a model folder (`rpcl_jax.run.model_folder`) and a model card, README.md. Nothing in it says
where files lie on the machine of the run.
"""

from pathlib import Path

from ml_collections import ConfigDict

from rpcl_jax.errors import InputError
from rpcl_jax.files import new_folder, write_text
from rpcl_jax.models.adapters import merge_adapters, separate_adapters
from rpcl_jax.models.pretrained import hub_name
from rpcl_jax.models.text_encoder import ENCODER
from rpcl_jax.run.base_config import base_config
from rpcl_jax.run.config import to_json
from rpcl_jax.run.model_folder import load_model, read_description, save_model


def export_run(folder: Path, out: Path, card: str, with_encoder: bool = True) -> None:
    """Writes the trained run in `folder` as a new folder to share, with the text of a model card.

    Adapters are merged into the encoder. Without the encoder, those of its parameters that were not
    trained are left out, and it is named instead; raises InputError if it was trained.
    """
    with new_folder(out) as new:
        run, described = load_model(folder, devices=1), read_description(folder)
        params, elsewhere = dict(run.params_with_encoder), described["encoder_elsewhere"]
        if not with_encoder:
            if not elsewhere:
                raise InputError(
                    f"{folder}: its text encoder was trained, so that it cannot be left out; "
                    "export it with the encoder"
                )
            elsewhere["name"] = public_name(run.config.text.pretrained)
            params[ENCODER], _ = separate_adapters(params[ENCODER])
        else:
            described["encoder_elsewhere"] = None
            if run.encoder.config.lora_rank:
                params[ENCODER] = merge_adapters(params[ENCODER])
                described["encoder"]["lora_rank"] = 0
        described["feature_tables"] = {
            modality: {
                key: public_name(str(table[key])) if key == "model" else table[key]
                for key in ("extractor", "model", "revision", "dimension")
                if key in table
            }
            for modality, table in run.feature_tables.items()
        }
        described.pop("folder", None)
        described |= {
            "threshold": run.threshold,
            "emotion_threshold": run.emotion_threshold,
            "run": to_json(_without_paths(run.config)),
        }
        save_model(new, described, run.encoder.tokenizer, params)
        write_text(new / "README.md", card)


def public_name(name: str) -> str:
    """Returns a model's name on the hub, or the last part of the name of a folder.

    >>> public_name("FacebookAI/roberta-base"), public_name("../models/mine/roberta")
    ('FacebookAI/roberta-base', 'roberta')
    """
    return hub_name(name) or Path(name).name


def _without_paths(config: ConfigDict) -> ConfigDict:
    config, default = config.copy_and_resolve_references(), base_config()
    for field in ("root", "audio", "vision"):
        config.data[field] = default.data[field]
    config.init = public_name(config.init)
    config.text.cache = default.text.cache
    config.text.pretrained = public_name(config.text.pretrained)
    return config
