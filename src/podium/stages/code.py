"""code: what people's own code that params.yaml names is made of, so that DVC sees it change. Writes data/code.

DVC follows no imports, and dvc.yaml can't name files that it does not know: the other stages depend on these two
digests. A file of `src/` that nothing reaches changes neither.
"""

from podium import own_code, paths, process
from podium.closure import digests_of
from podium.components import KINDS, find
from podium.config.limits import metrics_of
from podium.config.params import Params, load
from podium.config.space import reachable
from podium.data.dataset import write_json


def named(params: Params) -> dict[str, list[str]]:
    """The own objects that the stages reach: `source` is what prepare reads by, `training` is all the rest."""
    source = params.prepare.source
    pairs = [*reachable(params.recipe(), params.search.space), *((k, c.name) for k, c in params.search.chosen())]
    pairs += [("metric", one.name) for one in [*params.evaluate.metrics, *metrics_of(params.search.limits)]]
    foreign = [(kind, name) for kind, name in pairs if find(kind, name) is None]
    training = {name if own_code.is_name(name) else KINDS[kind].library for kind, name in foreign}
    return {
        "source": [source] if find("source", source) is None else [],
        "training": sorted(training),
    }


def main() -> None:
    """The stage, as dvc.yaml runs it."""
    paths.CODE.mkdir(parents=True, exist_ok=True)
    for name, objects in named(load(paths.PARAMS)).items():
        write_json(paths.CODE / f"{name}.json", digests_of(objects))


if __name__ == "__main__":
    process.run_stage(main)
