"""What training saw, as pictures of a report: views, masked views and composites."""

from genseg.core.names import BANKS
from genseg.data.composites.bank import load_bank
from genseg.data.composites.composer import Composer
from genseg.data.composites.dataset import ViewDataset
from genseg.data.images.files import ImageList
from genseg.data.images.inputs import rgb_of
from genseg.data.images.source import ImageError, ImageSource
from genseg.data.instances.instance import cut
from genseg.data.regions.opened import read_image
from genseg.reports.pictures import COLUMNS, TILE, Pixels, small
from genseg.reports.run import Run, chosen
from genseg.show.brightness import brightened, display_gain, gain_words
from genseg.show.page import Section, figure
from genseg.show.viewer import Picture, data_uri, picture_data, viewer
from genseg.workflows.pretrain.predictions import read_predictions
from genseg.workflows.pretrain.snapshots import spaced

COMPOSITES = 6
VIEWED = 3  # images whose views are shown
ALONE = ("simmim", "distill")  # methods that compare no views
NAMES = {
    "moco": "MoCo",
    "simclr": "SimCLR",
    "byol": "BYOL",
    "swav": "SwAV",
    "simmim": "SimMIM",
    "distill": "the student",
}


def composites(run: Run) -> Section | None:
    """What the alpha task is asked, with the answer: composites and their true layers."""
    c, images = run.config, run.images
    banks = sorted((run.path / BANKS).glob("*.npz"), key=lambda f: int(f.stem))
    if c is None or images is None or c.alpha.name == "none" or not banks or run.folder is not None:
        return None
    bank = load_bank(banks[-1])
    source = Shrunk(images, c.alpha.side)
    composer = Composer(source, bank, c.alpha.compose, share=1.0, seed=c.seed)
    made = composer([(0, i) for i in chosen(len(images), COMPOSITES)])
    pictures = []
    for n, pixels in enumerate(made.image.numpy()):
        layers = [cut(a) for a in made.visible[made.owner == n].numpy()]
        pictures.append(Picture(f"composite {n + 1}", pixels, tuple(layers)))
    data = [picture_data(p) for p in pictures]
    return Section(
        "composites",
        "Composites",
        "What the network was shown, and the layers it had to give back",
        viewer("composites", data, scored=False),
        f"Composites as the run draws them, from the proposals of round {len(banks)}. The layers "
        "are what is visible of each cut-out and of the host's own instances; they are known "
        "because the image was composed of them.",
        {"pictures": data},
    )


class Shrunk(ImageSource):
    """Images as the cache holds them, without making a cache. `side`: their short side at most; 0:
    as they are."""

    def __init__(self, images: ImageList, side: int) -> None:
        super().__init__(images, None)
        self.side = side

    def _get(self, i: int) -> Pixels | None:
        try:
            return None if i in self.broken else read_image(self.images, i, short_side=self.side)
        except ImageError as error:
            self.broken[i] = str(error)
            return None


def views(run: Run) -> Section | None:
    """The views that the method learns from."""
    c, images = run.config, run.images
    kinds = () if c is None else tuple(v for v in c.views.values() if v.count > 0)
    if c is None or images is None or not kinds or run.folder is not None:
        return None
    source = Shrunk(images, c.data.cache)
    dataset = ViewDataset(source, kinds, seed=c.seed, colour=True)
    rows = []
    for i in chosen(len(images), VIEWED):
        pixels, at = source.read(i)
        pixels = rgb_of(pixels)
        gain = display_gain(pixels)
        word = "; ".join(filter(None, ("image", gain_words(gain))))
        whole = brightened(small(_square(pixels)), gain)
        cells = [figure(data_uri(whole), word, alt=images.files[at], size=(TILE, TILE))]
        for group in dataset[[(0, i)]].images:
            for view in group[:, 0].numpy()[:8]:
                size, view = view.shape[0], rgb_of(view)
                alt = f"a view of {images.files[at]}"
                cells.append(
                    figure(
                        data_uri(brightened(small(view), gain)),
                        f"view, {size} px",
                        alt=alt,
                        size=(TILE, TILE),
                    )
                )
        rows.append(f'<div class="views">{"".join(cells)}</div>')
    return Section(
        "views",
        "Views",
        f"What {NAMES.get(c.method.name, c.method.name)} was shown"
        + ("" if c.method.name in ALONE else ": views of one image are alike"),
        "".join(rows),
        "As the run draws them, in its first epoch; the image itself is framed, and its views are "
        "shown as bright as it.",
    )


def predicted(run: Run) -> Section | None:
    """What a masked method sees of a few images, and what it predicts as training goes on."""
    seen, steps = read_predictions(run.path)
    if not seen:
        return None
    shown = [*seen.items(), *((f"step {n:,}", pixels) for n, pixels in spaced(steps, COLUMNS))]
    columns = []
    for name, pixels in shown:
        side = pixels.shape[1]
        cells = "".join(
            f'<img src="{data_uri(small(pixels[top : top + side]))}" width="{TILE}" '
            f'height="{TILE}" alt="{name}, image {n + 1}">'
            for n, top in enumerate(range(0, len(pixels), side))
        )
        columns.append(f"<figure><figcaption>{name}</figcaption>{cells}</figure>")
    return Section(
        "predicted",
        "Predicted",
        "A view, what the encoder sees of it, and what it predicts",
        f'<div class="scroll"><div class="steps">{"".join(columns)}</div></div>',
        "Each row is one image, with the same view and mask at every step; what was visible is "
        "shown as it is."
        if steps
        else "What is predicted are histograms of gradients, which are not shown.",
    )


def _square(pixels: Pixels) -> Pixels:
    n = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - n) // 2, (pixels.shape[1] - n) // 2
    return pixels[top : top + n, left : left + n]
