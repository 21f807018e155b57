"""select: the best configurations of the search, run again on fresh seeds and chosen by mean."""

from podium import paths, process
from podium.config.params import Params, load

# Worker processes import this module again as their main one: what only the driver needs is imported in run().


def main() -> None:
    """Run the stage as DVC does."""
    from podium.tuning.pools import processes

    params = load(paths.PARAMS)
    if params.runtime.engine == "processes":
        processes.warm_up(params.model.name)
    run(params)


def run(params: Params) -> None:
    """Confirm and write data/selected."""
    from podium.tuning.confirm import confirm

    confirm(params, paths.PREPARED, paths.SEARCH, paths.SELECTED)


if __name__ == "__main__":
    process.run_stage(main)
