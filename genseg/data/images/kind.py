"""What kind of file an image is, from its header."""

import io
from dataclasses import dataclass

import tifffile
from PIL import Image, UnidentifiedImageError

from genseg.data.images.decode import ORIENTATION, SIDEWAYS, bits_of, orientation_of
from genseg.data.images.held import ARRAYS
from genseg.data.images.values import held_in

COLOURS = {
    **{
        "1": "black and white",
        "L": "grey",
        "I": "grey",
        "F": "grey",
        "P": "palette",
        "PA": "palette + alpha",
    },
    **{
        "LA": "grey + alpha",
        "La": "grey + alpha",
        "RGBA": "RGB + alpha",
        "RGBa": "RGB + alpha",
        "RGBX": "RGB",
    },
}  # of PIL's modes; the others have telling names


@dataclass(frozen=True)
class Kind:
    """What the header of an image file says; width and height as it stands upright."""

    format: str
    mode: str  # colours and bits per channel
    width: int
    height: int
    frames: int = 1  # or pages


def kind_of(data: bytes) -> Kind:
    """The kind of a file of which `rgb_pixels` makes pixels. Raises what that raises."""
    if data[:4] in ARRAYS:
        held = held_in(io.BytesIO(data))
        size = held.sizes["X"], held.sizes["Y"]
        colours = {1: "grey", 3: "RGB"}.get(held.channels, f"{held.channels} channels")
        return Kind("NumPy", f"{colours} {held.dtype}", *size, held.pages)
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page, turned = (
                file.pages.first,
                file.pages.first.tags.valueof(ORIENTATION, 1) in SIDEWAYS,
            )
            samples = page.samplesperpixel
            known = {1: "grey", 3: "RGB", 4: "RGB + alpha"}
            colours = known.get(samples, f"{samples} channels")
            size = page.imagewidth, page.imagelength
            return Kind(
                "TIFF",
                f"{colours} {page.dtype}",
                *(size[::-1] if turned else size),
                len(file.pages),
            )
    # PIL turns a TIFF itself; its getexif() decodes a PNG: only where needed
    bits, turned = bits_of(image), False
    if image.format != "TIFF" and (
        image.format != "PNG" or any(w in data for w in (b"eXIf", b"exif"))
    ):
        turned = orientation_of(image) in SIDEWAYS
    colours = COLOURS.get(image.mode.split(";")[0], image.mode)
    if image.has_transparency_data and "alpha" not in colours:
        colours += " + alpha"
    size = image.size[::-1] if turned else image.size
    if image.format == "MPO":  # a camera's, whose other frames are previews
        return Kind("JPEG", f"{colours} {bits} bit", *size)
    return Kind(str(image.format), f"{colours} {bits} bit", *size, _frames(image))


def _frames(image: Image.Image) -> int:
    """How many frames or pages; 1 where a damaged file hides it."""
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # damaged files make PIL's plugins raise nearly anything
        return 1
