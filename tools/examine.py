"""Shows how often RPCL's two constraints are active in trained runs, split by split.

python tools/examine.py RUN… [--without=audio] [--out=examined.csv]

Prints a table for every run, at its best epoch, with a column for every split, in points:

pair_f1, precision, …    at the run's threshold; the training split's lead is overfitting
…_at_half                the same at a threshold of 0.5
pair_auprc               over all thresholds
gold_confidence          mean confidence of gold pairs
gap_hard                 mean distance of gold pairs to their hard negatives
violation_rate_hard      share of hard negatives within the margin (equations 8 to 11)
severity_hard            mean depth in the margin over all hard negatives
violation_depth_hard     mean depth in the margin over the violating ones
inversion_rate_hard      share of hard negatives above the gold pair
bystanders               share of utterances that corruption may zero (equations 12 to 14), at the
                         run's rho or, if that is 0, at 0.3
shift_gold, shift_other  mean change of the confidence of gold and other pairs when it does
gold_flipped             share of gold pairs that cross the threshold when it does
"""

import argparse
from pathlib import Path

from rpcl_jax.files import write_csv
from rpcl_jax.run.command_line import run_tool


def main() -> None:
    """Reads the command line and prints the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="finished runs")
    parser.add_argument(
        "--without",
        action="append",
        choices=("audio", "vision"),
        default=[],
        help="a modality that is taken away from every utterance; may be given twice",
    )
    parser.add_argument("--out", type=Path, help="a CSV file, with a row for every run and split")
    run_tool("examine", parser, _examine)


def _examine(arguments: argparse.Namespace) -> None:
    from rpcl_jax.reporting.examine import COLUMNS, examine

    rows = []
    for folder in arguments.runs:
        splits = examine(folder, arguments.without)
        rows += [list(row.values()) for row in splits]
        print(", without ".join([str(folder), *arguments.without]))
        print(f"{'in points':24s}", *(f"{row['split']:>7s}" for row in splits))
        for name in COLUMNS:
            print(f"{name:24s}", *(f"{row[name]:7.2f}" for row in splits))
    if arguments.out:
        write_csv(arguments.out, [["run", "split", *COLUMNS], *rows])


if __name__ == "__main__":
    main()
