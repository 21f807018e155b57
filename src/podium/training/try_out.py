"""Each kind of people's own code, tried once with four images: what is wrong is an InputError that names it."""

from collections.abc import Callable, Iterator
from typing import Any

from podium import components, own_code
from podium.components import Choice
from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.config.section import made_of
from podium.config.space import Dimension, is_argument
from podium.errors import InputError, of_parameter
from podium.models.networks import ImageSpec

BATCH = 4
NEED_IMAGES = {
    "network": ("num_classes", "in_channels", "image_size"),
    "loss": ("weight",),
    "augmentation": (),
    "metric": (),
}
"""Kinds that are tried with images or logits, each with the arguments that Podium gives by name."""
OF_LOG_PROBABILITIES = ("torch.nn:NLLLoss", "torch.nn.functional:nll_loss")
"""Losses that are not bounded for logits. A network of people's own may end with log_softmax: that goes with both."""
NO_IMAGES = ImageSpec((1, 1, 1), 1, (0.0,), (1.0,))
"""For kinds that do not look at them."""


def check_fits(kind: str, choice: Choice, parameter: str = "") -> None:
    """Raise InputError where `choice`, which is called with images, does not load or its arguments do not fit."""
    if components.find(kind, choice.name) is not None:
        return
    parameter = parameter or components.KINDS[kind].parameter
    function = components.load(kind, choice.name, parameter)
    own_code.check_arguments(function, choice.name, parameter, choice.arguments, _offered(kind, choice, function))


def _offered(kind: str, choice: Choice, function: Any) -> set[str]:
    """What Podium gives to the `function`, or class, of somebody else's that `choice` of `kind` names."""
    if kind == "metric" and not own_code.is_name(choice.name):
        return {"num_classes"}  # a class of torchmetrics
    positional = 0 if isinstance(function, type) else {"loss": 2, "metric": 2, "augmentation": 1}.get(kind, 0)
    return own_code.first_arguments(function, positional) | set(NEED_IMAGES[kind])


def _try_network(recipe: Recipe, search: SearchParams, images: ImageSpec) -> None:
    import torch

    from podium.models.build import build_model
    from podium.training.network_check import check_export, check_rebuilt

    name = recipe.model.name
    _check_dimensions("network", name, "model.arguments.", search.space)
    for one in _at_the_ends(recipe, search.space):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = _network_step(one, images, lambda one=one: build_model(one.model, images))  # type: ignore[misc]
    with torch.random.fork_rng():
        batch = torch.randint(0, 256, (BATCH, *images.shape), dtype=torch.uint8)
        check_rebuilt(model, lambda: build_model(recipe.model, images), batch, "model.name", name)
    check_export(model, images.shape, "model.name", name)


def _at_the_ends(recipe: Recipe, space: dict[str, Dimension]) -> Iterator[Recipe]:
    """`recipe`, and where arguments are searched, with all at their lowest and at their highest, and with each choice
    of one that has more than two."""
    ends = {n: d.values() for n, d in space.items() if n.startswith("model.arguments.") and _is_on(d, recipe)}
    for place in (0, -1) if ends else ():
        yield recipe.replace({name: values[place] for name, values in ends.items()})
    for name, values in ends.items():
        for value in values[1:-1] if space[name].choices is not None else ():
            yield recipe.replace({name: value})
    yield recipe


def _is_on(dimension: Dimension, recipe: Recipe) -> bool:
    return all(recipe.flat().get(other) in values for other, values in dimension.when.items())


def _network_step(recipe: Recipe, images: ImageSpec, build: Callable[[], Any]) -> Any:
    """The network, once it has answered for a few images in both modes and learnt from them."""
    import torch

    from podium.training.network_check import check_logits, check_predictions, check_weights

    name = recipe.model.name
    batch = torch.randint(0, 256, (BATCH, *images.shape), dtype=torch.uint8)
    try:
        model = build()
        model.train()
        logits = model(batch)
        check_logits(logits, BATCH, images.classes, "model.name", name)
        check_weights(model, logits, "model.name", name)
        logits.sum().backward()
        check_predictions(model, batch, images.classes, "model.name", name)
    except InputError:
        raise
    except own_code.RAISED as error:
        raise InputError(f"model.name: {name} fails on {BATCH} images: {own_code.placed(error, name)}") from error
    return model


def _try_loss(recipe: Recipe, search: SearchParams, images: ImageSpec) -> None:
    import torch

    name = recipe.train.loss.name
    _check_dimensions("loss", name, "train.loss.arguments.", search.space)
    logits = torch.randn((BATCH, images.classes), requires_grad=True)
    labels = torch.arange(BATCH) % images.classes
    weights = torch.ones(images.classes) if recipe.train.balance == "loss" else None
    try:
        value = recipe.train.component("loss").build(weights)(logits.clone(), labels)  # no leaf, as in a training
        value.backward()
    except InputError:
        raise
    except own_code.RAISED as error:
        shapes = f"logits, here {tuple(logits.shape)}, and the numbers of the classes, here {tuple(labels.shape)}"
        called = f". It is called with {shapes}, in this order" if isinstance(error, Exception) else ""
        raise InputError(f"train.loss: {name} fails: {own_code.placed(error, name)}{called}") from error
    at = own_code.at(name)
    if not bool(torch.isfinite(value)):
        raise InputError(f"train.loss: {name} gives {float(value.detach())} for logits of an untrained network{at}")
    if name in OF_LOG_PROBABILITIES and components.find("network", recipe.model.name) is not None:
        raise InputError(
            f"train.loss: {name} takes log-probabilities, and {recipe.model.name} gives logits: take"
            " torch.nn:CrossEntropyLoss"
        )
    if logits.grad is None:
        raise InputError(f"train.loss: {name} gives a value that does not depend on the logits: it teaches nothing{at}")


def _try_optimizer(recipe: Recipe, search: SearchParams, images: ImageSpec) -> None:
    import torch

    from podium.training.optimization import build_optimizer, set_rate

    name = recipe.train.optimizer.name
    _check_dimensions("optimizer", name, "train.optimizer.arguments.", search.space)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    try:
        optimizer = build_optimizer(model, recipe.train)
        _check_optimizer(optimizer, name)
        for _ in range(2):
            set_rate(optimizer, recipe.train.learning_rate)
            model(torch.ones(2, 3)).sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        optimizer.load_state_dict(_read_back(optimizer.state_dict(), name))
    except InputError:
        raise
    except own_code.RAISED as error:
        raise InputError(f"train.optimizer: {name} fails: {own_code.placed(error, name)}") from error


def _check_optimizer(optimizer: Any, name: str) -> None:
    """Raise InputError where Podium's loop can't step `optimizer`, or set its learning rate."""
    from podium.training.optimizers import check_step

    if any("scale" not in group for group in optimizer.param_groups):
        raise InputError(
            f"train.optimizer: {name} must keep the groups that it is given, with all of their keys, in `param_groups`:"
            f" Podium sets their learning rates{own_code.at(name)}"
        )
    check_step(optimizer, name)


def _read_back(state: Any, name: str) -> Any:
    """The `state` of an optimizer as a checkpoint gives it back. Raises InputError where none can."""
    import pickle

    from podium.training import checkpoint

    try:
        return checkpoint.loads(checkpoint.dumps("", {"optimizer": state}), "")["optimizer"]
    except (pickle.PickleError, AttributeError, TypeError) as error:  # the last two: what is local has no name
        raise InputError(
            f"train.optimizer: the state_dict of {name} must hold tensors, numbers, text and lists and dicts of them; a"
            f" checkpoint of it can't be read back ({str(error).splitlines()[0][:200]}){own_code.at(name)}"
        ) from error


def _try_schedule(recipe: Recipe, search: SearchParams, images: ImageSpec) -> None:
    name, epochs = recipe.train.schedule.name, recipe.train.epochs
    _check_dimensions("schedule", name, "train.schedule.arguments.", search.space)
    schedule = recipe.train.component("schedule")
    try:
        for epoch in {0, epochs // 2, epochs - 1}:
            float(schedule.factor(10 * epoch, 10 * epochs, epoch, epochs))
    except InputError:
        raise
    except own_code.RAISED as error:
        raise InputError(f"train.schedule: {name} fails: {own_code.placed(error, name)}") from error


def _try_augmentations(recipe: Recipe, search: SearchParams, images: ImageSpec) -> None:
    import torch

    from podium.training.augmentations import Draw

    batch = torch.randint(0, 256, (BATCH, *images.shape), dtype=torch.uint8)
    draw = Draw(torch.Generator(), 0, torch.zeros((1, images.shape[0], 1, 1), dtype=torch.uint8))
    for choice, one in zip(
        recipe.train.augment, recipe.train.augmentations()[-len(recipe.train.augment) :], strict=True
    ):
        place = f"train.augment.{choice.label}"
        _check_dimensions("augmentation", choice.name, f"{place}.arguments.", search.space)
        if one.BLENDS:
            continue
        try:
            one.apply(batch, draw)
        except InputError:
            raise
        except own_code.RAISED as error:
            is_whole = isinstance(error, Exception) and own_code.is_name(choice.name)
            called = f". It is called with a whole batch, here {own_code.described(batch)}" if is_whole else ""
            raise InputError(
                f"train.augment: {choice.name} fails: {own_code.placed(error, choice.name)}{called}"
            ) from error


def _try_program(recipe: Recipe, search: SearchParams, images: ImageSpec) -> None:
    if recipe.train.program is None:
        return
    _check_dimensions("program", recipe.train.program.name, "train.program.arguments.", search.space)
    recipe.train.component("program").check()
    if images is not NO_IMAGES:
        from podium.training.program_trial import try_program

        try_program(recipe, search, images)


def try_of_search(kind: str, chosen: Choice, search: SearchParams, images: ImageSpec | None) -> None:
    """Try `chosen`, a sampler, pruner or metric that `search` names. Raises InputError for what is wrong with it."""
    if kind == "metric":
        try_metric("search.metric", chosen, images)
    else:
        search.made(kind, chosen).try_out(search)


def try_metric(parameter: str, chosen: Choice, images: ImageSpec | None) -> None:
    """Try the metric `chosen`, that `parameter` names. Raises InputError for what is wrong with it."""
    import torch

    if parameter == "search.limits":
        _check_limit(chosen)
    if images is None:
        check_fits("metric", chosen, parameter)
    metric: Any = made_of("metric", chosen, {})
    value = 0.0
    try:
        metric.direction  # noqa: B018 (it raises what is wrong)
        if images is not None:
            labels = torch.arange(BATCH) % images.classes
            value = metric.compute(torch.randn((BATCH, images.classes)), labels)
    except InputError as error:
        raise InputError(of_parameter(parameter, str(error))) from None
    except own_code.RAISED as error:
        raise InputError(f"{parameter}: {chosen.name} fails: {own_code.placed(error, chosen.name)}") from error
    if value != value:
        raise InputError(
            f"{parameter}: {chosen.name} gives NaN or an infinite number for logits of an untrained network"
            f"{own_code.at(chosen.name)}"
        )


def _check_limit(chosen: Choice) -> None:
    """Raise InputError where the metric `chosen` needs arguments: search.limits has no place for them."""
    function = components.load("metric", chosen.name, "search.limits")
    known, offered = own_code.arguments_of(function)[0], _offered("metric", chosen, function)
    if needed := [name for name, one in known.items() if one.required and name not in offered]:
        remedy = (
            "give it a default" if own_code.is_name(chosen.name) else "name a function of your own that measures this"
        )
        raise InputError(
            f"search.limits: {chosen.name} needs {', '.join(needed)}, and a limit can't have arguments: {remedy}"
            f"{own_code.at(chosen.name)}"
        )


def _check_dimensions(kind: str, name: str, prefix: str, space: dict[str, Dimension]) -> None:
    """Raise InputError for dimensions of arguments that `name` does not have, or has as another kind of number."""
    own = components.find(kind, name)
    if own is not None:
        return
    known, takes_any = own_code.arguments_of(components.load(kind, name))
    lines = []
    for dimension, spread in space.items():
        argument = dimension.removeprefix(prefix)
        if argument == dimension or not is_argument(dimension) or takes_any:
            continue
        if argument not in known:
            if not spread.when:
                lines.append(
                    f"search.space.{dimension}: {name} has no argument {argument!r}; it has {', '.join(known)}"
                )
        elif spread.choices is None and known[argument].type in (int, float):
            wanted = known[argument].type
            if wanted is int and not isinstance(spread.low, int):
                lines.append(f"search.space.{dimension}: {argument} is whole: write low and high without a point")
            if wanted is float and isinstance(spread.low, int):
                lines.append(f"search.space.{dimension}: {argument} is a float: write low and high with a point")
    if lines:
        raise InputError("\n".join(lines))


TRIED: dict[str, Callable[[Recipe, SearchParams, ImageSpec], None]] = {
    "network": _try_network,
    "loss": _try_loss,
    "optimizer": _try_optimizer,
    "schedule": _try_schedule,
    "augmentation": _try_augmentations,
    "program": _try_program,
}
