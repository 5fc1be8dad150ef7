"""Windows of a whole slide, by OpenSlide: formats of scanners that are no plain TIFF."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from genseg.core.reading import Selection
from genseg.data.images.planes import Held, choose
from genseg.data.regions.georeference import OnMap
from genseg.data.regions.image import Sizes, checked_window


class SlideRegions:
    """A slide's RGB pixels, white where nothing was scanned; the contract of `RegionImage`."""

    on_map: OnMap | None = None
    pixel_size: tuple[float, float] | None
    levels: Sizes
    pages: tuple[int, ...] = (0,)

    def __init__(self, path: Path, selection: Selection, image: int = 0) -> None:
        """Raises ValueError where OpenSlide is not installed or does not know the file."""
        try:
            import openslide
        except ImportError:
            raise ValueError("a slide, which needs a package: pip install 'genseg[wsi]'") from None
        try:
            self._slide = openslide.OpenSlide(str(path))
        except openslide.OpenSlideError as error:
            raise ValueError(f"no slide that OpenSlide can open: {error}") from None
        self.path = path
        self.levels = tuple((h, w) for w, h in self._slide.level_dimensions)
        said = [self._slide.properties.get(f"openslide.mpp-{a}") for a in "yx"]
        self.pixel_size = None if None in said else (float(str(said[0])), float(str(said[1])))
        names = ("red", "green", "blue")
        self.held = Held("YXS", (*self.levels[0], 3), "uint8", 8, names, 3)
        self.choice = choose(self.held, selection)

    def read(
        self, top: int, left: int, height: int, width: int, level: int = 0
    ) -> UInt8[np.ndarray, "height width c"]:
        """A window of a level."""
        checked_window(self.levels[level], top, left, height, width)
        # OpenSlide wants the corner in pixels of the whole slide
        down, across = (a / b for a, b in zip(self.levels[0], self.levels[level], strict=True))
        corner = (round(left * across), round(top * down))
        rgba = np.asarray(self._slide.read_region(corner, level, (width, height)))
        alpha = rgba[..., 3:].astype(np.uint16)
        rgb = ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
        return rgb[..., list(self.choice.channels)]
