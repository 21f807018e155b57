"""Bytes that are no image that can be used: what is wrong with them, so that a person knows what to do.

As decode.py it travels inside every registered model, and imports nothing of Podium.
"""

import io
import re
import struct
import zlib

from PIL import Image, TiffImagePlugin

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What is read. Pillow knows more, but some of those start other programs (EPS) or are hardly ever pictures."""
HEIF = "HEIF"
"""The format of HEIC files, where the package pillow-heif has taught Pillow to read it."""
TIFFS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
"""How TIFF files begin (the last two: BigTIFF), and the order of their bytes."""
BEGINNINGS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", *TIFFS)
"""Of files that are meant to be images, whatever Pillow makes of them."""
CUT_SHORT = re.compile("truncat|unexpected end|not enough|incomplete|buffer overrun|EOF", re.IGNORECASE)
"""What the messages of Pillow's readers contain for a file that ends too early."""
PNG = b"\x89PNG\r\n\x1a\n"
PIXELS = b"IDAT"
ZEROS = 64
"""Zero bytes at the end that no format writes; what is appended to a file, such as a video, may end in them."""
JPEG, JPEG_END, JPEG_SCAN = b"\xff\xd8\xff", b"\xff\xd9", b"\xff\xda"
JPEG_MARK = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)
"""A mark of a JPEG that ends it or has a length behind it; in coded data 0 follows each FF that is none."""
NOTES = (b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"tIME", b"sBIT", b"bKGD", b"sPLT")
"""Chunks of a PNG that hold texts, colours' meaning and sizes: however long or damaged, they can't fail the pixels."""
TRANSPARENCY = b"tRNS"
"""The chunk of a PNG that decides pixels although its name says that it may be skipped."""
ORIENTATION = b"eXIf"
"""The chunk that says which way up it is. Where only its checksum is wrong, what it says is read all the same."""
POINTER = b"version https://git-lfs.github.com/"
HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
"""Brands of files that telephones write; mif1 and msf1 stand in AVIF, too."""
AVIF = {b"avif", b"avis"}
STRIPS = ((273, 279), (324, 325))
"""TIFF's tags of where the pixels lie, and how many bytes there are."""
TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value of each of TIFF's types."""


OTHERS = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"8BPS": "a file of Photoshop",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"PK\3\4": "a zip archive",
    b"\x1f\x8b": "compressed (gzip)",
    b"\x93NUMPY": "an array of NumPy, which a source of your own can give",
    b"\0\0\1\0": "an icon (ICO)",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"\x1aE\xdf\xa3": "a video",
    b"\x89HDF": "HDF5",
    b"SIMPLE  =": "FITS",
    b"<svg": "a drawing (SVG)",
    b"<!doctype html": "a web page (HTML), as where a download failed",
    b"<html": "a web page (HTML), as where a download failed",
    b"<?xml": "XML, as of a drawing or where a download failed",
    b"{": "JSON, as where a download failed",
}
"""What other files begin with, in lower case where it is text."""
MULTI_PICTURE = 0xB002
"""Entries of a JPEG that holds several pictures, one for each (CIPA DC-007, 5.2.3)."""


class BadImage(ValueError):  # noqa: N818 (what it is, in the words of whoever sent it)
    """The bytes are not an image that can be used; the message is a sentence that says why."""

    def __init__(self, message: str, kind: str = "corrupt") -> None:
        super().__init__(message)
        self.kind = kind
        """empty, not_image, truncated, corrupt or huge."""


def unidentified(data: bytes) -> BadImage:
    """What to say of bytes that Pillow knows nothing about."""
    brands = _brands(data)
    if is_heic(data) and HEIF not in Image.OPEN:
        return BadImage(
            "it is HEIC, which the package pillow-heif reads: install it (Podium's extra `heic`), or convert the file,"
            " such as with `heif-convert photo.heic photo.jpg`",
            "not_image",
        )
    if data.startswith(POINTER):
        return BadImage("it is a pointer of Git LFS, not the file itself: run `git lfs pull`", "not_image")
    if data[:4] in TIFFS and data[8:10] == b"CR":
        return BadImage("it is a camera's raw file, which is not read: convert it, such as to PNG", "not_image")
    if data.startswith(b"/annex/objects/"):
        return BadImage("it is a pointer of git-annex, not the file itself: run `git annex get`", "not_image")
    known = data.startswith(BEGINNINGS) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP") or brands & (AVIF | HEIC)
    if not known:
        what = f", but {kind}" if (kind := _kind_of(data)) else ""
        return BadImage(f"it is no image that can be read ({', '.join(FORMATS)}){what}", "not_image")
    if ends_early(data):
        return BadImage("it can't be decoded: it begins like an image, but ends too early", "truncated")
    if data[:4] in TIFFS and (why := _unsupported_tiff(data)):
        return BadImage(f"it is a TIFF of {why}, which is not read: convert it, such as to 16 bits", "not_image")
    return BadImage("it can't be decoded: it begins like an image, but what follows is damaged")


def _kind_of(data: bytes) -> str:
    """What bytes that are no image are, as they begin; empty: nobody knows."""
    if not any(data[:4096]):
        return "zero bytes, as where a copy broke off"
    if data[128:132] == b"DICM":
        return "DICOM"
    if data[4:8] == b"ftyp" or (data[:4] == b"RIFF" and data[8:11] == b"AVI"):
        return "a video"
    text = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((kind for begins, kind in OTHERS.items() if data.startswith(begins) or text.startswith(begins)), "")


def has_frames(image: Image.Image) -> bool:
    """Whether an opened file has several frames or pages, each an image of its own.

    Telephones put a preview or a map of brightness behind a photograph (MPO): these are none.
    """
    entries = getattr(image, "mpinfo", {}).get(MULTI_PICTURE, ())
    kinds = [str(one.get("Attribute", {}).get("MPType", "")) for one in entries[1:]]
    return bool(getattr(image, "is_animated", False)) and (
        not entries or any(kind.startswith("Multi-Frame") for kind in kinds)
    )


def is_heic(data: bytes) -> bool:
    """Whether a file calls itself HEIC, whatever else is wrong with it."""
    brands = _brands(data)
    return bool(brands & HEIC) and not brands & AVIF


def _brands(data: bytes) -> set[bytes]:
    """What a file of the family of HEIC and AVIF calls itself: the major brand and those that it is compatible with."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), 256)
    return {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}


def _unsupported_tiff(data: bytes) -> str:
    """Why Pillow does not read a TIFF that has all it needs; empty: it is damaged."""
    try:
        TiffImagePlugin.TiffImageFile(io.BytesIO(data)).close()
    except SyntaxError as error:
        return _numbers_of(data) or f"a kind of its own ({error})" if "unknown" in str(error) else ""
    except Exception:  # as Pillow's readers do on damaged files
        return ""
    return ""


def _numbers_of(data: bytes) -> str:
    """What the numbers of a TIFF are, such as floats of 64 bits; empty: its tags say nothing."""
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[:16] if b"+" in data[2:4] else data[:8])
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    bits, kind = tags.get(258, ()), tags.get(339, (1,))
    kind = kind[0] if isinstance(kind, tuple) and kind else kind
    names = {
        1: "whole numbers",
        2: "signed whole numbers",
        3: "floats",
        5: "complex whole numbers",
        6: "complex numbers",
    }
    if not isinstance(bits, tuple) or not bits or kind not in names:
        return ""
    return f"{names[kind]} of {bits[0]} bits" + (f" in {len(bits)} channels" if len(bits) > 1 else "")


def ends_early(data: bytes) -> bool:
    """Whether the file says of itself that there is more of it, in formats whose readers do not tell."""
    if data[:4] == b"RIFF":
        return 8 + int.from_bytes(data[4:8], "little") > len(data)
    if data.startswith((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")):  # JPEG 2000 has a mark of its end
        return not data.endswith(b"\xff\xd9")
    if data.startswith(PNG):
        return b"IEND" not in data[-12:] and data[12:16] == b"IHDR"
    if data.startswith(b"GIF8"):
        return not data.endswith(b";")
    if data[4:8] == b"ftyp":
        at = 0
        while len(data) - at >= 8 and (size := int.from_bytes(data[at : at + 4], "big")) >= 8:
            at += size
        return at > len(data)
    return data[:4] in TIFFS and _tiff_end(data) > len(data)


def check_whole(data: bytes) -> None:
    """Raise BadImage for damaged pixels that Pillow decodes to something, most often to black.

    It does not look at the checksums of a PNG's pixels, and takes the zero bytes that a broken download or a full disk
    leaves in a PNG, JPEG or GIF for coded pixels.
    """
    if data.startswith(PNG):
        at = len(PNG)
        while at + 12 <= len(data):
            end = at + 12 + int.from_bytes(data[at : at + 4], "big")
            if data[at + 4 : at + 8] == PIXELS and zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(
                data[end - 4 : end], "big"
            ):
                kind = "truncated" if not any(data[-ZEROS:]) else "corrupt"
                raise BadImage(f"its pixels are damaged: their checksum is wrong from byte {at:,} on", kind)
            at = end
    elif data.startswith((JPEG, b"GIF8")) and len(data) > ZEROS and not any(data[-ZEROS:]):
        whole = jpeg_end(data, _first_scan(data)) > 0 if data.startswith(JPEG) else _has_gif_end(data)
        if not whole:
            raise BadImage("it ends in zero bytes in the place of its last pixels", "truncated")


def jpeg_end(data: bytes, at: int) -> int:
    """Where a JPEG ends, behind the mark of its end, whose scans begin at `at`; 0: there is no such mark.

    What is between the scans (tables, notes) may hold the bytes of that mark; coded data hold none.
    """
    while at and (mark := JPEG_MARK.search(data, at)):
        if mark[0] == JPEG_END:
            return mark.end()
        at = mark.end() + max(2, int.from_bytes(data[mark.end() : mark.end() + 2], "big"))
    return 0


def _first_scan(data: bytes) -> int:
    """Where the scans of a JPEG begin, whatever stands between the segments before; 0: there are none."""
    at = 2
    while mark := JPEG_MARK.search(data, at):
        if mark[0] == JPEG_SCAN:
            return mark.start()
        at = mark.end() + max(2, int.from_bytes(data[mark.end() : mark.end() + 2], "big"))
    return 0


def _has_gif_end(data: bytes) -> bool:
    """Whether the blocks of a GIF lead to the one of its end (GIF89a, 17 to 27), whatever follows."""
    at = 13 + _gif_colours(data[10:11])
    while data[at : at + 1] in (b"!", b","):
        at += 2 if data[at : at + 1] == b"!" else 11 + _gif_colours(data[at + 9 : at + 10])
        while size := int.from_bytes(data[at : at + 1], "big"):
            at += 1 + size
        at += 1
    return data[at : at + 1] == b";"


def _gif_colours(flags: bytes) -> int:
    """Bytes of the table of colours that the byte `flags` says to follow."""
    number = int.from_bytes(flags, "big")
    return 3 * 2 ** ((number & 7) + 1) if number & 0x80 else 0


def _tiff_end(data: bytes) -> int:
    """Bytes that a TIFF needs for its first image: the table of what is where, its values, the pixels."""
    order, big = TIFFS[data[:4]], b"+" in data[2:4]
    number, width, step = ("Q", 8, 20) if big else ("I", 4, 12)
    values: dict[int, tuple[int, ...]] = {}
    try:
        (start,) = struct.unpack_from(order + number, data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
        first = start + (8 if big else 2)
        end = first + step * count
        for at in range(first, end, step):
            tag, kind, many = struct.unpack_from(order + "HH" + number, data, at)
            size = TIFF_BYTES.get(kind, 1) * many
            where = at + step - width
            if size > width:
                (where,) = struct.unpack_from(order + number, data, where)
            end = max(end, where + size)
            if tag in STRIPS[0] + STRIPS[1] and kind in (3, 4, 16):
                values[tag] = struct.unpack_from(f"{order}{many}{'HIQ'[(3, 4, 16).index(kind)]}", data, where)
    except struct.error:  # the table itself lies beyond the end
        return len(data) + 1
    pairs = [zip(values.get(of, ()), values.get(many, ()), strict=False) for of, many in STRIPS]
    return max([int(end), *(start + size for pair in pairs for start, size in pair)])


def without_notes(data: bytes) -> bytes:
    """A PNG without its profile and texts, and without other damaged chunks that decide no pixel.

    Damaged or very long ones fail nothing but themselves. Names of chunks that may be skipped begin in lower case
    (PNG, third edition, 5.4).
    """
    if not data.startswith(PNG):
        return data
    kept, at = [PNG], len(PNG)
    while at + 8 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        name, chunk = data[at + 4 : at + 8], data[at:end]
        whole = name[:1].isupper() or zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if name == ORIENTATION and not whole:
            kept.append(chunk[:-4] + zlib.crc32(chunk[4:-4]).to_bytes(4, "big"))
        elif name not in NOTES and (whole or name == TRANSPARENCY):
            kept.append(chunk)
        at = end
    return b"".join(kept)
