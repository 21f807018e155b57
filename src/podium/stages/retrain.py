"""retrain: the chosen configuration on train and validation, on the GPU where there is one."""

import os

from podium import entry, paths
from podium.params import load


def main() -> None:
    """Run the stage as DVC does."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler's library greets every start; read at torch's import
    from podium.retraining.retrain import retrain

    retrain(load(paths.PARAMS), paths.PREPARED, paths.SELECTED, paths.RETRAINED)


if __name__ == "__main__":
    entry.run_stage(main)
