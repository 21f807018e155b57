"""search: the study over `search.space`, its trials mirrored to MLflow, its outcome in data/search."""

from podium import paths, process
from podium.config.params import Params, load

# Worker processes import this module again as their main one: what only the driver needs is imported in main().


def main() -> None:
    """Run the stage as DVC does."""
    from podium.config.experiment import changes
    from podium.tuning.pools import processes

    params = load(paths.PARAMS)
    for line in changes(paths.PARAMS, params):
        print(line)
    if params.runtime.engine == "processes":
        processes.warm_up(params.model.name)
    run(params)


def run(params: Params) -> None:
    """Search and write data/search."""
    from podium.tuning.outcome import search

    search(params, paths.PREPARED, paths.SEARCH)


if __name__ == "__main__":
    process.run_stage(main)
