"""How much decoded pictures may take together, over all threads of a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from PIL import Image

MOST_BYTES = 1 << 30
SMALL_BYTES = 4 << 20
"""A picture of less is not counted: a thread has one of them at a time."""
PLAIN, COMPOSED = 4, 12
"""Bytes of a pixel while it is decoded, and where transparency is laid over white."""


class Budget:
    """Bytes that are held by several threads, `most` together; who asks for more has all of it alone."""

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0
        self._changed = Condition()

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Wait until there is room for `amount` bytes, and have them."""
        amount = min(amount, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._held + amount <= self._most)
            self._held += amount
        try:
            yield
        finally:
            with self._changed:
                self._held -= amount
                self._changed.notify_all()


DECODING = Budget(MOST_BYTES)


def bytes_of(image: Image.Image) -> int:
    """What decoding a picture takes at most, read off its header."""
    plain = image.mode in ("1", "L", "RGB", "CMYK", "YCbCr") and "transparency" not in image.info
    return image.width * image.height * (PLAIN if plain else COMPOSED)
