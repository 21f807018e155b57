"""retrain: the chosen configuration on train and validation, on the GPU where there is one."""

from podium import entry, paths
from podium.params import load
from podium.retraining import retrain


def main() -> None:
    """Run the stage as DVC does."""
    retrain(load(paths.PARAMS), paths.PREPARED, paths.SELECTED, paths.RETRAINED)


if __name__ == "__main__":
    entry.run(main)
