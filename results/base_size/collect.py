"""Writes tried.csv, the validation scores of the runs of queue.sh that are finished.

    python results/base_size/collect.py runs/base_size

Rows of runs that are not there stay as they are: a run may be from another machine.
"""

import csv
import json
import sys
from pathlib import Path

TABLE = Path(__file__).parent / "tried.csv"
_SCORES = ("pair_f1", "pair_precision", "pair_recall", "pair_auprc", "weighted_f1", "emotion_f1")


def main() -> None:
    """Reads the results below the folder that is given, and the table."""
    rows = {}
    if TABLE.exists():
        with TABLE.open(newline="", encoding="utf-8") as file:
            rows = {row["run"]: row for row in csv.DictReader(file)}
    for path in sorted(Path(sys.argv[1]).glob("*/result.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        scores = {f"validation_{name}": f"{100 * result['dev'][name]:.2f}" for name in _SCORES}
        rows[path.parent.name] = {
            "run": path.parent.name,
            "epochs": result["epochs"],
            "best_epoch": result["best_epoch"],
            **scores,
            "minutes": f"{result['seconds'] / 60:.0f}",
            "jax": result["versions"]["jax"],
        }
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(next(iter(rows.values()))), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[name] for name in sorted(rows))


if __name__ == "__main__":
    main()
