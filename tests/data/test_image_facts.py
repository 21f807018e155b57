"""What is known of an image besides its pixels."""

import numpy as np
from PIL import Image

import photos
from podium.data.image_facts import fingerprint, looks


def test_fingerprint_is_of_shape_and_pixels_in_any_memory_layout() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)
    prints = [fingerprint(image) for image in images]
    assert [fingerprint(image) for image in np.asfortranarray(images)] == prints
    assert len(set(prints)) == 5
    assert not {fingerprint(image.reshape(3, 2, 8)) for image in images} & set(prints)


def test_look_of_an_image_does_not_depend_on_those_beside_it() -> None:
    pieces = [np.asarray(Image.fromarray(np.asarray(one)).convert("L").resize((32, 32))) for one in photos.tiles()[:60]]
    steps = [np.full((32, 32), 128, np.uint8) + np.uint8(k) * (np.indices((32, 32)).sum(0) % 2).astype(np.uint8)
             for k in range(4)]  # fmt: skip
    thumbs = np.stack([*pieces, *steps])

    whole = looks(thumbs)

    assert len(np.unique(whole)) > 40
    assert whole[len(pieces)] == 0  # of one shade
    for count in (1, 3, 7):
        parts = [looks(thumbs[start : start + count]) for start in range(0, len(thumbs), count)]
        assert np.array_equal(np.concatenate(parts), whole)
