"""The command `rpcl`, or `python -m rpcl_jax`: rpcl_jax.main and the tools by short names."""

import runpy
import sys

from rpcl_jax.files import shipped

MODES = {
    "train": "Trains a config and evaluates it.",
    "evaluate": "Computes the numbers and predictions of a run again.",
    "predict": "Finds the pairs of unlabelled conversations.",
}
TOOLS = {
    "export": "export",
    "convert": "convert",
    "extract": "extract_features",
    "statistics": "corpus_statistics",
    "grid": "run_grid",
    "compare": "compare",
    "tables": "make_tables",
    "figures": "make_figures",
    "report": "make_report",
    "examine": "examine",
}


def main() -> None:
    """Runs the command that the first argument names."""
    command, *rest = sys.argv[1:] or ["--help"]
    if command in MODES:
        sys.argv[1:] = [f"--mode={command}", *rest]
        runpy.run_module("rpcl_jax.main", run_name="__main__", alter_sys=True)
    elif command in TOOLS:
        sys.argv[1:] = rest
        runpy.run_path(str(shipped("tools") / f"{TOOLS[command]}.py"), run_name="__main__")
    elif command in ("-h", "--help"):
        print("rpcl COMMAND …; `rpcl COMMAND --help` explains one\n")
        lines = MODES | {name: _first_line(tool) for name, tool in TOOLS.items()}
        for name, does in lines.items():
            print(f"  {name:11s} {does}")
    else:
        print(f"rpcl: {command}: no such command; `rpcl --help` lists them", file=sys.stderr)
        sys.exit(2)


def _first_line(tool: str) -> str:
    text = (shipped("tools") / f"{tool}.py").read_text(encoding="utf-8")
    return text.partition("\n")[0].strip('"')


if __name__ == "__main__":
    main()
