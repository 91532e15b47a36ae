"""Shows how often RPCL's two constraints are active in trained runs, split by split.

rpcl examine RUN… [--without=audio] [--out=examined.csv]

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

from pathlib import Path

from absl import flags

from rpcl_jax.files import write_csv
from rpcl_jax.run.command_line import run_command

_WITHOUT = flags.DEFINE_multi_enum(
    "without", [], ["audio", "vision"], "Take this modality away from every utterance."
)
_OUT = flags.DEFINE_string("out", "", "A CSV file, with a row for every run and split.")


def _examine(*runs: str) -> None:
    from rpcl_jax.reporting.examine import COLUMNS, examine

    rows = []
    for folder in runs:
        splits = examine(Path(folder), _WITHOUT.value)
        rows += [list(row.values()) for row in splits]
        print(", without ".join([folder, *_WITHOUT.value]))
        print(f"{'in points':24s}", *(f"{row['split']:>7s}" for row in splits))
        for name in COLUMNS:
            print(f"{name:24s}", *(f"{row[name]:7.2f}" for row in splits))
    if _OUT.value:
        write_csv(Path(_OUT.value), [["run", "split", *COLUMNS], *rows])


if __name__ == "__main__":
    run_command("examine", _examine, takes="RUN…")
