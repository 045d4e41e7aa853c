"""What the header of a JPEG says of its size: shared by the index of a data set and the pixel path."""

from __future__ import annotations

import struct

import numpy as np

from probe.hashing import RawImage

_START = b"\xff\xd8"
_FRAMES = frozenset((0xC0, 0xC1, 0xC2))
"""Baseline, extended and progressive Huffman coding, whose frames can be decoded at a fraction."""
_BARE = frozenset((0x01, *range(0xD0, 0xD8)))
"""Markers without a length."""
_END = frozenset((0xC3, 0xC5, 0xC6, 0xC7, *range(0xC9, 0xCC), 0xCD, 0xCE, 0xCF, 0xD9, 0xDA))
"""Frames of other coding, the first scan and the end of the picture: no frame header follows."""


_SCAN = int.from_bytes(b"\xff\xda", "little")
HEADER_BYTES = 16 << 20
"""Of what comes before the picture, at most: what is longer is put together for minutes."""
SCANS, BYTES_A_SCAN = 64, 1 << 14
"""A progressive picture has about ten scans, of which each goes over all of it. What follows a picture may
look like the start of some by chance, the less often the shorter it is."""


def excess(raw: bytes) -> str | None:
    """Why a JPEG would be decoded for minutes, whatever its size; None for all other files."""
    if not raw.startswith(_START):
        return None
    scans, most = _scans(raw), SCANS + len(raw) // BYTES_A_SCAN
    if scans > most:
        return f"{scans:,} scans in {len(raw):,} bytes, where at most {most:,} belong"
    if len(raw) > HEADER_BYTES and raw.find(b"\xff\xda", 0, HEADER_BYTES) < 0:
        return f"more than {HEADER_BYTES:,} bytes before the picture"
    return None


def _scans(raw: bytes) -> int:
    """How often a scan may begin; `bytes.count` would take a twentieth of the time of decoding."""
    pairs = (np.frombuffer(raw, "<u2", (len(raw) - start) // 2, start) for start in (0, 1))
    return sum(int(np.count_nonzero(found == _SCAN)) for found in pairs)


def jpeg_side(raw: RawImage) -> int:
    """The shorter side, pixels, of a JPEG that can be decoded at a fraction of its size; 0 for all else.

    Those are grey and RGB pictures of 8 bits. CMYK is not among them: its conversion multiplies channels, so
    that the mean of several pixels is not what the mean of their inks gives.
    """
    if not isinstance(raw, bytes) or not raw.startswith(_START):
        return 0
    place = len(_START)
    while place + 10 <= min(len(raw), HEADER_BYTES) and raw[place] == 0xFF:
        marker = raw[place + 1]
        if marker in _FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", raw, place + 4)
            return min(height, width) if bits == 8 and channels in (1, 3) else 0
        if marker in _END:
            return 0
        if marker == 0xFF:
            place += 1
        elif marker in _BARE:
            place += 2
        else:
            place += 2 + int.from_bytes(raw[place + 2 : place + 4])
    return 0
