"""Prints the paper's Table 1 for a benchmark: counts of each split and of all.

rpcl statistics --config=ecf [--splits=train,dev] [--csv=FILE]

`--config.data.root=FOLDER` is where the benchmark lies. `rpcl tables` writes the same rows
for the benchmarks of finished runs.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from rpcl_jax.readers.corpus import SPLITS, emotion_classes, load_splits, with_classes
from rpcl_jax.run.command_line import require_config, run_command

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Names the benchmark.")
_SPLITS = flags.DEFINE_list("splits", list(SPLITS), "The splits to count; others may be missing.")
_CSV = flags.DEFINE_string("csv", "", "A CSV file for the same rows.")


def _print_statistics() -> None:
    from rpcl_jax.reporting.experiments import benchmark_name
    from rpcl_jax.reporting.tables import (
        STATISTICS_COLUMNS,
        Table,
        markdown,
        statistics_rows,
        write_table_csv,
    )

    splits = load_splits(_CONFIG.value, _SPLITS.value)
    if "train" in splits:  # as training reads them
        classes = emotion_classes(_CONFIG.value, splits["train"])
        splits = with_classes(splits, classes, _CONFIG.value)
    everything = [dialogue for dialogues in splits.values() for dialogue in dialogues]
    rows = statistics_rows(benchmark_name(_CONFIG.value), splits | {"total": everything})
    table = Table("statistics", list(STATISTICS_COLUMNS), rows)
    print(markdown(table), end="")
    if _CSV.value:
        write_table_csv(table, Path(_CSV.value))


if __name__ == "__main__":
    run_command("statistics", _print_statistics, lambda: require_config(_CONFIG))
