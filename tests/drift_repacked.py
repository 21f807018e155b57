"""Files of drift with something else in them than they should have."""

from collections.abc import Callable

import numpy as np

from podium.drift import sketch


def repacked(names: tuple[str, ...], **changes: object) -> Callable[[bytes], bytes]:
    """The file with arrays `names`, some of them, or fields of what it says, replaced by `changes`."""

    def change(data: bytes) -> bytes:
        about, arrays = sketch.unpacked(data, "it", names)
        for name, value in changes.items():
            if name in arrays:
                arrays[name] = np.asarray(value)
            else:
                about[name] = value
        return sketch.packed(about, **arrays)

    return change
