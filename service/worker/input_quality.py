"""Whether an image was compressed with loss, by what its file says: which weights it is enlarged with."""

import io

from PIL import Image

from pixeltier.service.worker import jpeg_file

MOST_QUALITY = 92
"""JPEGs of a higher quality (libjpeg's scale) count as clean."""

# Annex K of ITU-T T.81: the luminance table that libjpeg scales, in the order of rows.
_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)


def was_compressed(body: bytes) -> bool:
    """Whether a JPEG's quantisation is coarse, or a WebP lossy. PNG and what cannot be read are clean."""
    if body.startswith(jpeg_file.SIGNATURE):
        quality = jpeg_quality(body)
        return quality is not None and quality <= MOST_QUALITY
    return _is_lossy_webp(body)


def jpeg_quality(body: bytes) -> float | None:
    """A JPEG's quality on libjpeg's scale of 0 to 100, by its first quantisation table; None where it has none."""
    try:
        with Image.open(io.BytesIO(body), formats=("JPEG",)) as image:
            tables = getattr(image, "quantization", {})
    except Exception:  # decoding, which comes first, has said what is wrong
        return None
    table = tables.get(0)
    if not table or len(table) != len(_LUMINANCE):
        return None
    scale: float = 100 * sum(table) / sum(_LUMINANCE)
    return (200 - scale) / 2 if scale <= 100 else 5000 / scale


def _is_lossy_webp(body: bytes) -> bool:
    """By its chunks (RFC 9649): `VP8 ` is lossy, `VP8L` is not; a container's first frame decides."""
    if body[:4] != b"RIFF" or body[8:12] != b"WEBP":
        return False
    at = 12
    while at + 8 <= len(body):
        name, length = body[at : at + 4], int.from_bytes(body[at + 4 : at + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8 "
        # A frame's own chunks follow its header of 16 bytes.
        at += 8 + (16 if name == b"ANMF" else length + length % 2)
    return False
