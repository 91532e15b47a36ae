"""Writes a finished run as a folder to share, or to upload to the Hugging Face hub.

rpcl export RUN --out=DIR

DIR has model.safetensors, config.json, the tokenizer, and a model card (README.md) to read and
complete. `Predictor(DIR)` and `rpcl predict --model=DIR` take it, or the name of a model on the
hub after `hf upload NAME DIR`.
"""

from pathlib import Path

from absl import flags

from rpcl_jax.run.command_line import require, run_command

_WITHOUT_ENCODER = flags.DEFINE_bool(
    "without-encoder",
    False,
    "Of an encoder that is frozen or has adapters, write the name and not the parameters.",
)
_OUT = flags.DEFINE_string("out", "", "The new folder.")


def _export(run: str) -> None:
    from rpcl_jax.files import read_json
    from rpcl_jax.reporting.model_card import model_card
    from rpcl_jax.run.export import export_run

    folder, out, with_encoder = Path(run), Path(_OUT.value), not _WITHOUT_ENCODER.value
    export_run(folder, out, model_card(folder, out.name, with_encoder), with_encoder)
    print(f"{out}: written; read and complete its README.md before you share it")
    if not with_encoder:
        name = read_json(out / "config.json")["encoder_elsewhere"]["name"]
        print(f"{out}/config.json names its text encoder, {name}, at encoder_elsewhere.name")


if __name__ == "__main__":
    run_command("export", _export, lambda *_: require(_OUT), takes="RUN")
