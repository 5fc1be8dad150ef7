"""A method of genseg in a plain PyTorch loop of one's own: SimCLR on a folder of images.

    python examples/own_loop.py FOLDER --steps 1000 --run runs/own

`genseg pretrain` does more: checkpoints, exact resume, several processes, reports. This script
shows what a method needs, for a loop that you have already. The encoder that it writes is like any
other: `genseg finetune ... encoder=runs/own`, `genseg.load("runs/own").embed(IMAGE)`.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genseg.core.names import ENCODER_NAME
from genseg.core.schedule import cosine, plan
from genseg.data.images.files import list_images
from genseg.data.images.pixels import normalise
from genseg.data.images.source import ImageSource
from genseg.data.images.views import ViewConfig, colour_view, crop_view, draw_view
from genseg.methods.simclr import SimCLR, SimCLRConfig
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.nn.encoder_file import EncoderFacts, save_encoder

VIEW = ViewConfig(size=64, blur=0.2, sigma=(0.1, 0.8))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LR = 1e-3


class TwoViews(Dataset[Tensor]):
    """Two random views of each image, `2 h w 3`, uint8."""

    def __init__(self, folder: str) -> None:
        self.source = ImageSource(list_images(folder), None)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> Tensor:
        image, _ = self.source.read(i)  # the next one, where this one is broken
        rng = np.random.default_rng(int(torch.randint(2**31, ())))  # torch seeds each worker
        drawn = [draw_view(rng, VIEW, *image.shape[:2]) for _ in range(2)]
        views = [colour_view(crop_view(image, view, VIEW.size), view) for view in drawn]
        return torch.from_numpy(np.stack(views))


def main() -> None:
    """Train, and write the encoder."""
    parser = argparse.ArgumentParser(description="SimCLR in a plain PyTorch loop.")
    parser.add_argument("folder", help="images: a folder tree, a text list or a COCO json")
    parser.add_argument("--steps", type=int, default=1000, help="updates")
    parser.add_argument("--batch", type=int, default=64, help="images of an update")
    parser.add_argument("--workers", type=int, default=0, help="processes that make views")
    parser.add_argument("--run", type=Path, default=Path("runs/own"), help="a folder of its own")
    options = parser.parse_args()

    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset = TwoViews(options.folder)
    length = plan(
        images=len(dataset), batch=options.batch, epochs=None, steps=options.steps, samples=None
    )
    loader = DataLoader(
        dataset, options.batch, shuffle=True, drop_last=True, num_workers=options.workers
    )
    encoder, _ = build_encoder(EncoderConfig(name="resnet18"))
    # any of genseg.methods.METHODS goes here: they share one contract, genseg/methods/method.py
    method = SimCLR(encoder, SimCLRConfig(temperature=0.2, hidden=512), length).to(device)
    optimizer = torch.optim.AdamW(method.parameters(), lr=LR, weight_decay=0.05)

    step = 0
    while step < length.total:
        for batch in loader:
            progress = step / length.total
            optimizer.param_groups[0]["lr"] = cosine(progress, LR, 0.0)
            method.begin_step()
            pixels = batch.to(device).transpose(0, 1)  # v b h w c
            views = [normalise(pixels, mean=MEAN, std=STD)]  # one tensor for each size of views
            loss = method(views)["loss"]
            optimizer.zero_grad()
            loss.backward()
            method.before_step(progress)
            optimizer.step()
            method.after_step(progress)  # teachers and queues move here, where there are some
            step += 1
            if step % 10 == 0 or step == length.total:
                print(f"step {step} of {length.total}: loss {loss.item():.3f}")
            if step == length.total:
                break

    facts = EncoderFacts(EncoderConfig(), "simclr", MEAN, STD, VIEW.size, step * options.batch)
    options.run.mkdir(parents=True, exist_ok=True)
    save_encoder(encoder, options.run / ENCODER_NAME, facts)
    print(f"encoder: {options.run / ENCODER_NAME}")


if __name__ == "__main__":
    main()
