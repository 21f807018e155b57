"""timm's networks by name, with a head for our classes. R. Wightman, PyTorch Image Models, 2019."""

import difflib
from typing import TYPE_CHECKING, Any, ClassVar

from podium import own_code
from podium.components import Choice
from podium.errors import InputError
from podium.models.networks import ImageSpec, Network

if TYPE_CHECKING:
    from torch import nn

    from podium.models.weight_files import Statistics

PREFIX = "timm:"
DECIDED = {
    "num_classes": "the classes of the images",
    "pretrained": "model.weights",
    "checkpoint_path": "model.weights",
    "in_chans": "the images, of which grey ones become three equal channels",
}
"""Arguments that Podium gives itself, each with what decides its value."""


class Timm(Network):
    """A network of timm, such as timm:resnet18 or timm:tf_efficientnet_lite0."""

    NAME: ClassVar[str] = PREFIX
    TAKES_WEIGHTS: ClassVar[bool] = True

    chosen: Choice

    def build(self, images: ImageSpec) -> "nn.Module":
        """The network with random weights; nothing is fetched. Raises InputError where it can't take these images."""
        import timm

        from podium.models.backbone import check_arguments, wrapped

        name = self.chosen.name.removeprefix(PREFIX)
        if not timm.is_model(name):
            close = difflib.get_close_matches(name, timm.list_models(), n=1)
            hint = f"did you mean {PREFIX}{close[0]}?" if close else "timm.list_models() has them"
            raise InputError(f"model.name: timm has no model {name!r}; {hint}")
        options = self._options(name, images)

        def make() -> "nn.Module":
            network: nn.Module = timm.create_model(name, pretrained=False, num_classes=images.classes, **options)
            return network

        check_arguments(self.chosen.name, self.chosen.arguments, DECIDED)
        config = _config(name)
        made_for = config.input_size[-1] if config else 0
        backbone = wrapped(make, self.chosen.name, images, given=self.chosen.arguments, made_for=made_for)
        named = getattr(backbone.network, "default_cfg", {}).get("classifier") or ()
        heads = (named,) if isinstance(named, str) else tuple(named)  # distilled networks have several
        there = dict(backbone.network.named_modules())
        if found := tuple(head for head in heads if head in there):
            backbone.head_names = found
        return backbone

    def pretrained_statistics(self) -> "Statistics | None":
        """Those of timm's own weights of this network."""
        config = _config(self.chosen.name.removeprefix(PREFIX))
        return (tuple(config.mean), tuple(config.std)) if config else None

    def _options(self, name: str, images: ImageSpec) -> dict[str, object]:
        """Arguments of the network: those of params.yaml, and the images' size where it has to know it."""
        import timm

        options: dict[str, object] = dict(self.chosen.arguments)
        known, _ = own_code.arguments_of(timm.model_entrypoint(name))
        fixed = _config(name)
        needs_size = bool(fixed and fixed.fixed_input_size) or "img_size" in known
        return options | ({"img_size": images.shape[1:]} if needs_size and "img_size" not in options else {})


def _config(name: str) -> Any:
    """What timm says of its weights for `name`, or None. Raises InputError for a tag (`resnet18.tag`) that it lacks."""
    import timm

    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:
        base, _, tag = name.partition(".")
        known = [one.removeprefix(f"{base}.") for one in timm.list_pretrained(f"{base}.*")]
        has = f"timm has {', '.join(known)}" if known else f"timm has none of it: {PREFIX}{base}"
        raise InputError(f"model.name: {PREFIX}{base} has no pretrained tag {tag!r}; {has}") from None
