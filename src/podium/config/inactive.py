"""Dimensions that nothing reads: whatever a trial's value is, its training is the same.

Inactive parameters of `model` and `train` are no error: they wait for the component that reads them. In the space such
a parameter costs trials, and looks like a result.
"""

from podium import components
from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.config.section import parameters_of
from podium.config.space import SECTIONS, Dimension, is_argument
from podium.errors import InputError

OF_BACKBONES = {"train.backbone_rate", "train.layer_decay", "train.head_epochs"}
"""Fields of the training that only networks with a backbone and a head read, which are a library's."""
WEIGHTS = "model.weights"


def check(base: Recipe, search: SearchParams) -> None:
    """Raise InputError where no configuration of `search` around `base` reads one of its dimensions."""
    found = []
    for name, dimension in search.space.items():
        readers = {} if is_argument(name) else _readers(name)
        named = {kind: _possible(kind, base, search, dimension) for kind in readers}
        if readers and not any(_reads(kind, one, own) for kind, own in readers.items() for one in named[kind]):
            found.append(f"search.space.{name}: {_sentence(name, named, readers)}")
    if found:
        raise InputError("\n".join(found))


def _readers(name: str) -> dict[str, list[str]]:
    """The components that read the field `name`, by kind; empty: every training does."""
    libraries = [one for one in components.declared("network") if one.endswith(":")]
    if name in OF_BACKBONES:
        return {"network": libraries}
    if name == WEIGHTS:
        return {"network": [*libraries, "your own"]}
    section, _, field = name.partition(".")
    declared = {component for component, _ in parameters_of(SECTIONS[section]).get(field, [])}
    own = {kind: sorted(declared & set(components.declared(kind))) for kind in SECTIONS[section].KINDS}
    return {kind: readers for kind, readers in own.items() if readers and field not in readers}


def _possible(kind: str, base: Recipe, search: SearchParams, dimension: Dimension) -> list[str]:
    """The components of `kind` that a trial which has `dimension` may name."""
    parameter, space = components.KINDS[kind].parameter, search.space
    own = [choice.name for one, choice in [*base.model.chosen(), *base.train.chosen()] if one == kind]
    if kind == "augmentation":
        known = {*space, *search.overrides}
        return [*own, *(name for name in components.declared(kind) if f"train.{name}" in known)]
    if parameter in dimension.when:
        return [str(value) for value in dimension.when[parameter]]
    searched = [str(value) for value in space[parameter].values()] if parameter in space else []
    if searched and not space[parameter].when:
        return searched
    instead = [str(search.overrides[parameter])] if parameter in search.overrides else []
    return list(dict.fromkeys([*searched, *instead, *own]))


def _reads(kind: str, name: str, readers: list[str]) -> bool:
    own = components.find(kind, name)
    return "your own" in readers if own is None else own.NAME in readers


def _sentence(name: str, named: dict[str, list[str]], readers: dict[str, list[str]]) -> str:
    kind, own = next(iter(readers.items()))
    lacking, parameter = named[kind], components.KINDS[kind].parameter
    what = " or ".join(f"{one}<name>" if one.endswith(":") else one for one in own)
    who = f"{', '.join(lacking)} {'do' if len(lacking) > 1 else 'does'} not read it" if lacking else "nothing reads it"
    remedy = f"search {parameter} with {what}" if kind != "augmentation" else f"turn on {what}"
    foreign = [one for one in lacking if components.find(kind, one) is None]
    place = "model.arguments" if kind == "network" else f"{parameter}.arguments"
    theirs = f"; what {foreign[0]} itself takes is searched as {place}.<name>" if foreign else ""
    return f"{who}: every value would give the same training. Take it out of search.space, or {remedy}{theirs}"
