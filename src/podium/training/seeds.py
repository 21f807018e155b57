"""Seeds that follow from a name: the same parts give the same seed on every machine, in every process."""

import hashlib


def derive(*parts: str | int) -> int:
    """A seed in [0, 2**31) from `parts`, independent for different parts (SHA-256 of their joined text)."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
