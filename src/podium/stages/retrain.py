"""retrain: the chosen configuration on train and validation, on the GPU if there is one."""

from podium import paths, process
from podium.config.params import load
from podium.profiling import silence


def main() -> None:
    """Run the stage as DVC does."""
    silence()
    from podium.retraining.winner import retrain

    retrain(load(paths.PARAMS), paths.PREPARED, paths.SELECTED, paths.RETRAINED)


if __name__ == "__main__":
    process.run_stage(main)
