import pytest
import torch
from torch import Tensor, nn

import tiny
from podium.config.recipe import ModelParams
from podium.models.build import build_model
from podium.models.members import Members, together

SHAPE = (3, 12, 12)


class Noted(nn.Module):
    """Logits that are the images' own numbers; it notes which images it got."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Tensor] = []
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        self.got.append(images.detach())
        return images * self.scale


@pytest.mark.parametrize(
    ("images", "members", "sizes"),
    [(8, 2, [4, 4]), (8, 3, [3, 3, 2]), (3, 3, [1, 1, 1]), (2, 2, [1, 1]), (7, 1, [7])],
)
def test_members_learn_each_from_its_part_of_the_batch(images: int, members: int, sizes: list[int]) -> None:
    networks = [Noted() for _ in range(members)]
    batch = torch.arange(2.0 * images).view(images, 2)
    logits = Members(networks).train()(batch)
    assert torch.equal(logits, batch)  # in the batch's order
    assert [len(one.got[0]) for one in networks] == sizes
    assert torch.equal(torch.cat([one.got[0] for one in networks]), batch)


@pytest.mark.parametrize(("images", "sizes"), [(42, [31, 11]), (8, [6, 2]), (3, [2, 1]), (2, [1, 1])])
def test_members_with_parts_of_other_sizes_get_those_and_one_image_at_least(images: int, sizes: list[int]) -> None:
    networks = [Noted(), Noted()]
    batch = torch.arange(2.0 * images).view(images, 2)
    assert torch.equal(Members(networks, (3, 1)).train()(batch), batch)
    assert [len(one.got[0]) for one in networks] == sizes


def test_members_all_learn_although_batches_are_smaller_than_their_number() -> None:
    torch.manual_seed(0)
    networks = [Noted() for _ in range(5)]
    whole = Members(networks).train()
    for _ in range(40):
        assert len(whole(torch.randn(2, 3))) == 2
    counts = [len(one.got) for one in networks]
    assert sum(counts) == 80
    assert min(counts) >= 5


def test_members_predict_the_mean_of_their_probabilities_for_any_batch() -> None:
    torch.manual_seed(1)
    model = build_model(ModelParams(name="resnet", width=2, members=3), tiny.spec(SHAPE)).eval()
    images = torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8)
    inputs, (whole,) = model[0](images), [one for one in model if isinstance(one, Members)]
    mean = torch.stack([one(inputs).softmax(1) for one in whole]).mean(0)
    assert len({one(inputs).sum().item() for one in whole}) == 3  # other first weights
    torch.testing.assert_close(model(images).exp(), mean)
    torch.testing.assert_close(model(images[:1]), model(images)[:1], rtol=1e-4, atol=1e-4)


def test_a_single_member_is_the_network_itself() -> None:
    network = Noted()
    assert together([network]) is network
