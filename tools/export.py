"""Writes a finished run as a folder to give to others, or to upload to the Hugging Face hub.

python tools/export.py RUN --out=DIR

DIR has model.safetensors, config.json, the tokenizer, and a model card (README.md) to read and
complete. `Predictor(DIR)` and `--mode=predict --model=DIR` use it; so do they with the name of a
model on the hub, after `hf upload NAME DIR`.
"""

import argparse
from pathlib import Path

from rpcl_jax.run.command_line import run_tool


def main() -> None:
    """Reads the command line and writes the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run")
    parser.add_argument(
        "--without-encoder",
        action="store_true",
        help="of an encoder that is frozen or has adapters, write the name and not the parameters",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new folder")
    run_tool("export", parser, _export)


def _export(arguments: argparse.Namespace) -> None:
    from rpcl_jax.reporting.model_card import model_card
    from rpcl_jax.run.export import export_run

    with_encoder = not arguments.without_encoder
    card = model_card(arguments.run, arguments.out.name, with_encoder)
    export_run(arguments.run, arguments.out, card, with_encoder)
    print(f"{arguments.out}: written; read and complete its README.md before you share it")


if __name__ == "__main__":
    main()
