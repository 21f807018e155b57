"""The search that params.yaml and the prepared images describe."""

import os
import re
from typing import Any

from podium.closure import versions_of
from podium.components import KINDS, find, load
from podium.config import inactive, limits
from podium.config.params import Params
from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.config.section import ARGUMENTS
from podium.config.space import Dimension, Value, is_argument, reachable
from podium.data.dataset import DatasetInfo
from podium.errors import InputError
from podium.metrics import scores
from podium.models.weight_files import digests
from podium.own_code import arguments_of
from podium.tracking.mirror import Parent
from podium.tuning import session
from podium.tuning.pools.placement import environment
from podium.tuning.starts import START, starts
from podium.tuning.study import identity, name_of, point


def plan_of(params: Params, info: DatasetInfo) -> session.Plan:
    """The search that `params` and the prepared images describe."""
    if params.train.program is not None and (costly := params.search.costs):
        raise InputError(
            f"search.metric and search.limits: {', '.join(costly)} can't be known before an own training loop"
            " (train.program) has built its network: leave them out, or name metrics"
        )
    inactive.check(params.recipe(), params.search)
    base = base_of(params)
    facts = identity(params.search, base, info.digest, params.evaluate.metrics)
    facts["weights"] = digests(base, params.search.space)
    facts["environment"] = environment(params.runtime, versions_of(reachable(base, params.search.space)))
    _check_kernels(params.search, base, facts["environment"]["device"])
    enqueued: list[tuple[dict[str, Any], dict[str, Any]]] = []
    if params.search.defaults_first:
        values = point(params.search.space, base, base)
        if isinstance(values, str):
            raise InputError(
                f"search.defaults_first: {values}: your own settings of `model` and `train` can't be tried. Widen"
                " search.space, set search.space: {}, or search.defaults_first: false"
            )
        enqueued.append((dict(values), {}))
    if portfolio := starts(params.search, base):
        facts["starts"] = portfolio
        enqueued += [(values, {START: "portfolio"}) for values in portfolio]
    name = name_of("search", facts)
    tags = {"podium.data_digest": info.digest, "podium.source": info.source}
    if os.environ.get("DVC_EXP_NAME"):
        tags["podium.experiment"] = os.environ["DVC_EXP_NAME"]
    return session.Plan(
        name,
        facts,
        params.search,
        base,
        Parent(name, tags),
        "search",
        enqueued,
        subject_of(info.source),
        inherits=True,
        metrics=params.evaluate.metrics,
    )


def check_defined(params: Params, info: DatasetInfo) -> None:
    """Raise InputError where search.metric or one of evaluate.metrics has no value for the validation images."""
    images = info.counts.get("val", {})
    if not images:  # an earlier Podium counted nothing: each epoch looks
        return
    named = [
        *(("search.metric", scores.of(one)) for one in params.search.metrics),
        *(("search.limits", scores.of(one)) for one in limits.metrics_of(params.search.limits)),
        *(("evaluate.metrics", one) for one in params.measured()),
    ]
    problems = [
        f"{parameter}: {metric.label} is undefined on the validation images: {why}"
        for parameter, metric in named
        if (why := metric.undefined(images))
    ]
    if problems:
        raise InputError("\n".join(problems))


def _check_kernels(search: SearchParams, base: Recipe, kind: str) -> None:
    """Raise InputError where search.deterministic is asked for and trainings on a device of this `kind` differ."""
    if not search.deterministic:
        return
    if kind not in ("cuda", "mps"):
        _check_probed(search, base, kind)
        return
    if False not in _possible(search, base, "train.deterministic"):
        return
    remedy = "runtime.device: cpu" if kind == "mps" else "train.deterministic: true (slower kernels)"
    searched = "train.deterministic" in search.space
    remedy += ", leave false out of its dimension" if searched and kind == "cuda" else ""
    how = "may be" if searched else "is"
    raise InputError(
        f"search.deterministic: needs trainings that give the same bits each time; the device is {kind}, and"
        f" train.deterministic {how} false. Set {remedy}, or search.deterministic: false"
    )


def _check_probed(search: SearchParams, base: Recipe, kind: str) -> None:
    """Raise InputError where a training on a CPU would be in 16 bits or not by what each worker has timed."""
    values = _possible(search, base, "train.precision")
    probed = [str(value) for value in values if value in ("bfloat16", "float16")]
    if probed and base.train.program is None:
        raise InputError(
            f"search.deterministic: does not go with train.precision {' or '.join(probed)} on a CPU, where each worker"
            " times whether it is faster than float32 and takes that otherwise. Set train.precision: float32 (auto is"
            f" that on a CPU), {'runtime.device: cuda where every node has a GPU, ' if kind == 'auto' else ''}or"
            " search.deterministic: false"
        )


def _possible(search: SearchParams, base: Recipe, name: str) -> list[Value]:
    """The values that a trial may have of the field `name`, which is no range; by `when` that of `base` is one too."""
    dimension = search.space.get(name)
    if dimension is None:
        return [base.flat()[name]]
    values = dimension.choices or []
    own = base.flat()[name]
    return [*values, own] if dimension.when and own not in values else values


def base_of(params: Params) -> Recipe:
    """The configuration that the space replaces fields of."""
    return with_defaults(params.recipe().replace(params.search.overrides), params.search.space)


def subject_of(source: str) -> str:
    """What is classified, as a title has it: `photos` for `folder:data/raw/photos`, `digits` for `digits`."""
    return re.split(r"[:/\\]", source.rstrip("/\\"))[-1][:40] or source


def with_defaults(base: Recipe, space: dict[str, Dimension]) -> Recipe:
    """`base` with the defaults of people's own arguments that are searched and not given: those are tried first."""
    values: dict[str, Any] = {}
    for name in (name for name in space if is_argument(name) and name not in base.flat()):
        slot, _, argument = name.partition(f".{ARGUMENTS}.")
        for kind, choice in [*base.model.chosen(), *base.train.chosen()]:
            place = "model" if kind == "network" else KINDS[kind].parameter
            here = slot in (place, f"{place}.{choice.label}")
            if here and find(kind, choice.name) is None:
                known, _ = arguments_of(load(kind, choice.name))
                if argument in known and not known[argument].required:
                    values[name] = known[argument].default
    return base.replace(values)
