"""Names of timm's networks, with and without a tag of its weights."""

import pytest

import tiny
from podium.config.recipe import ModelParams
from podium.errors import InputError


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("resnet18.nonexist", "no pretrained tag 'nonexist'; timm has a1_in1k, a2_in1k"),
        ("resnet18.", "no pretrained tag ''; timm has a1_in1k, a2_in1k"),
        ("vgg9999", "timm has no model 'vgg9999'; "),
    ],
)
def test_name_that_timm_lacks_is_refused_with_those_it_has(name: str, remedy: str) -> None:
    with pytest.raises(InputError, match=r"^model\.name: ") as caught:
        ModelParams(name=f"timm:{name}").network().build(tiny.IMAGES)
    assert remedy in str(caught.value)


@pytest.mark.parametrize("name", ["test_resnet", "test_resnet.r160_in1k"])
def test_name_with_or_without_a_tag_is_built(name: str) -> None:
    assert ModelParams(name=f"timm:{name}").network().build(tiny.IMAGES).get_submodule("network") is not None
