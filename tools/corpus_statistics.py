"""Prints the paper's Table 1 for a benchmark: what each split holds, and all of them.

python tools/statistics.py --config=configs/ecf.py [--splits=train,dev] [--csv=FILE]

`--config.data.root=FOLDER` says where the benchmark lies. tools/make_tables.py writes the same rows
for the benchmarks of finished runs.
"""

import sys
from pathlib import Path

if not __package__:  # a script: not tools/, whose statistics.py is not Python's, but the repository
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags
from ml_collections import config_flags

from rpcl_jax.data.corpus_statistics import split_statistics
from rpcl_jax.readers.corpus import SPLITS, load_splits
from rpcl_jax.reporting.experiments import benchmark_name
from rpcl_jax.reporting.tables import (
    STATISTICS_COLUMNS,
    Table,
    Value,
    markdown,
    statistics_rows,
    write_csv,
)
from rpcl_jax.run.command_line import check_config, run_command

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Names the benchmark.")
_SPLITS = flags.DEFINE_list("splits", list(SPLITS), "Which; the others need not be there.")
_CSV = flags.DEFINE_string("csv", "", "A CSV file for the same rows.")


def main() -> None:
    """Reads the flags and prints the table."""
    run_command("statistics", _print_statistics, lambda: check_config(_CONFIG))


def _print_statistics() -> None:
    splits = load_splits(_CONFIG.value, _SPLITS.value)
    everything = [dialogue for dialogues in splits.values() for dialogue in dialogues]
    name = benchmark_name(_CONFIG.value)
    rows: list[list[Value]] = [
        *statistics_rows(name, splits),
        [name, "total", *split_statistics(everything)],
    ]
    table = Table("statistics", list(STATISTICS_COLUMNS), rows)
    print(markdown(table), end="")
    if _CSV.value:
        write_csv(table, Path(_CSV.value))


if __name__ == "__main__":
    main()
