"""torchvision's classification networks by name, with a head for our classes."""

import difflib
import warnings
from typing import TYPE_CHECKING, ClassVar

from podium.components import Choice
from podium.models.networks import ImageSpec, Network

if TYPE_CHECKING:
    from torch import nn

    from podium.models.weight_files import Statistics

PREFIX = "torchvision:"
DECIDED = {"num_classes": "the classes of the images", "weights": "model.weights"}
"""Arguments that Podium gives itself, each with what decides its value."""
TORCHVISION = """
alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169 densenet201
efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6
efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5
mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small regnet_x_16gf regnet_x_1_6gf
regnet_x_32gf regnet_x_3_2gf regnet_x_400mf regnet_x_800mf regnet_x_8gf regnet_y_128gf regnet_y_16gf regnet_y_1_6gf
regnet_y_32gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf regnet_y_8gf resnet101 resnet152 resnet18 resnet34 resnet50
resnext101_32x8d resnext101_64x4d resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5
shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b swin_s swin_t swin_v2_b swin_v2_s swin_v2_t vgg11 vgg11_bn vgg13
vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32 vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2 wide_resnet50_2
""".split()  # noqa: SIM905 (eighty lines otherwise)
"""torchvision's own list, known without importing it; a test compares them."""


class Torchvision(Network):
    """A classification network of torchvision, such as torchvision:resnet18."""

    NAME: ClassVar[str] = PREFIX
    TAKES_WEIGHTS: ClassVar[bool] = True

    chosen: Choice

    @staticmethod
    def known_names() -> list[str]:
        """Every name, with the prefix."""
        return [PREFIX + name for name in TORCHVISION]

    @staticmethod
    def check_name(name: str) -> str:
        """`name`, where torchvision has it. Raises ValueError."""
        if name.removeprefix(PREFIX) in TORCHVISION:
            return name
        close = difflib.get_close_matches(name, Torchvision.known_names(), n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]}?" if close else ", as torchvision.models.list_models() has them"
        raise ValueError(f"must be torchvision:<model>; got {name!r}{hint}")

    def pretrained_statistics(self) -> "Statistics | None":
        """Those of ImageNet, on which all of torchvision's weights were trained."""
        from podium.models.weight_files import IMAGENET_STATISTICS

        return IMAGENET_STATISTICS

    def build(self, images: ImageSpec) -> "nn.Module":
        """The network with random weights. Raises InputError where it can't take these images."""
        import torchvision.models  # 1 s, and only this kind of network needs it

        from podium.models.backbone import check_arguments, wrapped

        name = self.chosen.name.removeprefix(PREFIX)
        options: dict[str, object] = dict(self.chosen.arguments)
        if name in ("googlenet", "inception_v3"):
            options |= {"aux_logits": False, "init_weights": False}
        elif name.startswith("vit_"):
            options |= {"image_size": images.shape[1]}

        def make() -> "nn.Module":
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                network: nn.Module = torchvision.models.get_model(
                    name, weights=None, num_classes=images.classes, **options
                )
            return network

        check_arguments(self.chosen.name, self.chosen.arguments, DECIDED)
        return wrapped(make, self.chosen.name, images, given=self.chosen.arguments)
