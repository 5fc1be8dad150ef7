"""Images of other than three channels, from a folder of OME-TIFFs to instances, vectors, a
fine-tuned model and a table."""

import json
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import tifffile
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from small import ENCODER

import genseg
from genseg.cli import main
from genseg.core.reading import Reading, reading
from genseg.data.composites.appearance import photometric, plain
from genseg.data.composites.bank import build_bank
from genseg.data.composites.compose import ComposeConfig
from genseg.data.composites.composer import Composer
from genseg.data.composites.dataset import ViewDataset
from genseg.data.images.cache import build_cache
from genseg.data.images.files import list_images
from genseg.data.images.inputs import as_inputs, rgb_of, stretch
from genseg.data.images.pixels import centre, normalise
from genseg.data.images.ranges import fitted_ranges
from genseg.data.images.source import ImageSource, decode
from genseg.data.images.views import (
    View,
    ViewConfig,
    colour_batch,
    colour_view,
    crop_view,
    draw_view,
)
from genseg.data.proposals.propose import PROPOSERS, propose
from genseg.nn.encoder import Encoder, EncoderConfig, build_encoder, torchvision_state
from genseg.nn.encoder_file import facts_of
from genseg.nn.kept_reading import reading_of
from genseg.nn.weights import read_facts
from genseg.workflows.pretrain.config import IMAGENET_MEAN, DataConfig

COUNTS = (1, 2, 4, 5, 13)
NAMES = ("DAPI", "GFP", "RFP", "Cy5")
TINY = {
    "encoder.name": ENCODER,
    "alpha.decoder.channels": [16, 16, 8, 8],
    "alpha.decoder.tower": 8,
    "alpha.compose.size": 64,
    "alpha.side": 64,
    "views.both.size": 32,
    "batch_size": 4,
    "data.workers": 0,
    "steps": 2,
    "probe.every": "0 steps",
}


def image_of(channels: int, seed: int = 0, side: int = 64) -> np.ndarray:
    """Discs, in each channel as bright as no other."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    out = rng.normal(20, 4, (side, side, channels))
    for _ in range(6):
        cy, cx, r = rng.uniform(8, side - 8, 2).tolist() + [rng.uniform(4, 8)]
        inside = (y - cy) ** 2 + (x - cx) ** 2 < r**2
        out[inside] = rng.uniform(90, 220, channels)
    return out.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", COUNTS)
def test_views_are_the_same_on_both_paths_and_leave_channels_apart(channels: int) -> None:
    image, config = image_of(channels), ViewConfig(size=32, jitter=1.0, gray=0.5, blur=0.5)
    for seed in range(6):
        view = draw_view(np.random.default_rng(seed), config, *image.shape)
        cut = crop_view(image, view, 32)
        assert cut.shape == (32, 32, channels) and len(view.vector()) == View.length(channels)
        found = colour_view(cut, view)
        assert found.shape == cut.shape
        x = torch.from_numpy(cut).movedim(-1, 0)[None] / 255
        other = colour_batch(x, torch.from_numpy(view.vector())[None])[0].movedim(0, -1) * 255
        assert np.abs(found - other.numpy()).mean() < 1.5
        kept = [c for c in range(channels) if view.channels[c][3]]
        assert kept and all(found[..., c].any() == (c in kept) for c in range(channels))
        # another channel changes nothing in this one
        alone = cut.copy()
        alone[..., 1:] = 0
        np.testing.assert_array_equal(colour_view(alone, view)[..., 0], found[..., 0])


def test_three_channels_draw_what_they_drew() -> None:
    config = ViewConfig(size=32)
    one, other = (np.random.default_rng(5) for _ in range(2))
    assert draw_view(one, config, 60, 70) == draw_view(other, config, 60, 70, 3)
    assert one.random() == other.random()


@pytest.mark.parametrize("channels", COUNTS)
def test_pixels_of_any_number_of_channels(channels: int) -> None:
    image = image_of(channels)
    assert centre(image, 20).shape == (20, 20, channels)
    assert stretch(image).shape == image.shape and rgb_of(image).shape == (64, 64, 3)
    mean, std = tuple(np.linspace(0.1, 0.9, channels)), (0.5,) * channels
    x = normalise(torch.from_numpy(image), mean=mean, std=std)
    np.testing.assert_allclose(
        x.movedim(0, -1).numpy(), (image / 255 - mean) / std, rtol=1e-4, atol=1e-5
    )
    rng = np.random.default_rng(0)
    for _ in range(8):
        assert photometric(rng, image.astype(np.float32), 0.9).shape == image.shape
    assert plain(rng, image, 48).shape == (48, 48, channels)
    if channels > 1:
        low = image.copy()
        low[..., 1] = low[..., 1] // 8
        assert stretch(low)[..., 1].max() > 4 * low[..., 1].max()  # each has its own range
        with pytest.raises(ValueError, match="the model takes 7 channels"):
            as_inputs(image, 7)
    else:
        assert as_inputs(image, 3).shape == (64, 64, 3)


@pytest.mark.parametrize("channels", COUNTS)
def test_proposers_look_at_any_channels(channels: int) -> None:
    image = image_of(channels)
    for name in PROPOSERS:
        assert all(a.area >= 20 for a in propose(name, image))
    # a disc that one channel alone shows is found
    hidden = np.full((64, 64, channels), 30, np.uint8)
    y, x = np.mgrid[:64, :64]
    hidden[(y - 30) ** 2 + (x - 33) ** 2 < 64, -1] = 200
    (best, *_) = propose("tree", hidden)
    assert best.covers(30, 33) and abs(best.area - np.pi * 64) < 60


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_weights_of_rgb_are_adapted_as_smp_does(channels: int, tmp_path: Path) -> None:
    rgb, _ = build_encoder(EncoderConfig("resnet18"))
    save_file(
        {k: v.contiguous().clone() for k, v in torchvision_state(rgb).items()},
        tmp_path / "rgb.safetensors",
    )
    config = EncoderConfig(
        "resnet18", weights=str(tmp_path / "rgb.safetensors"), in_channels=channels
    )
    encoder, report = build_encoder(config)
    assert report is not None and report.adapted == ("conv1.weight",) and not report.misshapen
    assert "made of RGB's for other channels" in str(report)
    theirs = smp.encoders.get_encoder("resnet18", in_channels=3, weights=None)
    theirs.load_state_dict(rgb.net.state_dict())
    theirs.set_in_channels(channels, pretrained=True)
    torch.testing.assert_close(encoder.net.conv1.weight, theirs.conv1.weight)
    assert encoder(torch.zeros(2, channels, 64, 64)).shape == (2, 512)


@pytest.mark.parametrize("channels", COUNTS)
def test_batches_of_views_and_composites(channels: int, tmp_path: Path) -> None:
    for n in range(2):
        np.save(tmp_path / f"{n}.npy", np.moveaxis(image_of(channels, n), -1, 0))
    words = Reading(",".join(map(str, range(1, channels + 1))))
    with reading(words):
        images = list_images(tmp_path)
    source = ImageSource(images, build_cache(images, side=48, workers=1))
    assert source.channels == channels and source.read(1)[0].shape == (48, 48, channels)
    bank = build_bank([propose("tree", source.read(n)[0]) for n in range(2)])
    config = ComposeConfig(size=32, texture=0.3, photometric=1.0)
    composer = Composer(source, bank, config, share=1.0, seed=0)
    views = (ViewConfig(size=32), ViewConfig(size=16))
    batch = ViewDataset(source, views, seed=0, colour=True, composer=composer)[
        [(epoch, n) for epoch in range(4) for n in range(2)]
    ]
    assert [x.shape[-1] for x in batch.images] == [channels, channels]
    assert batch.composites is not None and batch.composites.image.shape == (8, 32, 32, channels)
    encoder = Encoder(EncoderConfig(ENCODER, in_channels=channels))
    x = normalise(batch.composites.image, mean=(0.5,) * channels, std=(0.5,) * channels)
    assert encoder(x).isfinite().all() and encoder.stride() == 32


def test_mean_and_deviation_have_a_number_for_each_channel() -> None:
    assert DataConfig("x").mean == IMAGENET_MEAN
    assert DataConfig("x", channels="1,2,3,4").mean == (*IMAGENET_MEAN, IMAGENET_MEAN[0])
    with pytest.raises(ValueError, match="has 2 numbers, and the images 1 channels"):
        DataConfig("x", channels="1", mean=(0.1, 0.2))


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight OME-TIFFs of four channels and three z, 12 bits in 16."""
    root = tmp_path_factory.mktemp("slides")
    for n in range(8):
        x = image_of(4, n).astype(np.uint16).transpose(2, 0, 1)[None] * 16
        x = np.concatenate([x // 2, x, x // 4])
        metadata = {"axes": "ZCYX", "Channel": {"Name": list(NAMES)}, "PhysicalSizeX": 0.5}
        tifffile.imwrite(root / f"{n}.ome.tif", x, metadata=metadata)
    return root


@pytest.fixture(scope="module")
def run(slides: Path, few_composites: None) -> Path:
    """Trained on two channels, the brightest of z, and the range of the set."""
    run = slides.parent / f"{slides.name}-run"
    words = {"data.channels": "RFP,DAPI", "data.pages": "max", "data.range": "set"}
    genseg.pretrain(slides, run=run, recipe="simclr_alpha", **TINY, **words)
    return run


def test_a_run_keeps_its_words_and_what_comes_after_uses_them(
    slides: Path, run: Path, tmp_path: Path
) -> None:
    kept = reading_of(run)
    assert (kept.channels, kept.pages, len(kept.ranges)) == ("RFP,DAPI", "max", 2)
    facts = facts_of(run / "encoder.safetensors")
    assert facts.encoder.in_channels == 2 and facts.reading == kept
    with genseg.reading(channels="RFP,DAPI", pages="max"):
        assert fitted_ranges(list_images(slides)) == kept.ranges
    files = [tifffile.imread(f).max(0) for f in sorted(slides.glob("*.tif"))]
    low, high = np.percentile(np.stack(files)[:, 2], (0.1, 99.9))
    assert kept.ranges[0] == pytest.approx((low, high))
    first = decode(slides / "0.ome.tif", reading=kept)
    want = np.clip((files[0][2] - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(first[..., 0], want, atol=0.51)
    # what comes after needs no word
    found = genseg.generate(run, slides, out=tmp_path / "found", cutouts=True, score=0.0)
    content = json.loads((tmp_path / "found/instances.json").read_text())
    assert found.images == 8 and not found.broken
    assert content["info"]["reading"] == {"channels": "RFP,DAPI", "pages": "max"}
    model = genseg.load(run)
    assert len(model.instances(slides / "0.ome.tif", score=0.0)) >= 0
    vectors = model.embed([slides / "0.ome.tif", np.dstack([files[0][2], files[0][0]])])
    np.testing.assert_allclose(vectors[0], vectors[1], rtol=1e-3, atol=1e-4)
    genseg.embed(run, slides, tmp_path / "v.npz")
    assert len(np.load(tmp_path / "v.npz")["vectors"]) == 8
    with genseg.reading(channels="1,2,3"), pytest.raises(ValueError, match="takes 2 channels"):
        genseg.generate(run, slides, out=tmp_path / "other")
    theirs = timm.create_model(f"local-dir:{run / 'timm'}", pretrained=True, num_classes=0)
    x = torch.rand(1, 2, 64, 64)
    ours = model._loaded()[0]
    torch.testing.assert_close(theirs.eval()(x), ours(x), rtol=1e-3, atol=1e-4)
    report = (run / "report.html").read_text("utf-8")
    assert "composites" in report.lower() and (tmp_path / "found/report.html").is_file()


def test_a_table_has_the_channels_of_the_file(slides: Path, tmp_path: Path) -> None:
    words = ["--channels", "GFP", "--pages", "each", "--out", str(tmp_path / "found")]
    assert main(["generate", "otsu", str(slides), *words]) == 0
    content = json.loads((tmp_path / "found/instances.json").read_text())
    assert len(content["images"]) == 24 and len({i["id"] for i in content["images"]}) == 24
    assert [i["page"] for i in content["images"][:4]] == [1, 2, 3, 1]
    table = tmp_path / "table.csv"
    assert main(["measure", str(tmp_path / "found"), "--out", str(table)]) == 0
    rows = [line.split(",") for line in table.read_text().splitlines()]
    where = rows[0].index("gfp_max")
    x = {n: tifffile.imread(slides / "0.ome.tif")[n, 1] for n in range(3)}
    for n in range(3):
        mine = [r for r in rows[1:] if r[0] == f"0.ome.tif (image {n + 1})"]
        assert mine and max(float(r[where]) for r in mine) == x[n].max()
    assert (
        main(
            [
                "evaluate",
                "alpha",
                str(tmp_path / "found/instances.json"),
                "--data",
                str(tmp_path / "found/instances.json"),
            ]
        )
        == 0
    )


def test_a_plain_file_beside_stacks_is_told_without_a_page(slides: Path, tmp_path: Path) -> None:
    folder, found = tmp_path / "mixed", tmp_path / "found"
    folder.mkdir()
    page = tifffile.imread(slides / "0.ome.tif")[0, 1]
    tifffile.imwrite(folder / "plain.tif", page)
    tifffile.imwrite(folder / "stack.tif", np.stack([page] * 2), metadata=None)
    assert main(["generate", "otsu", str(folder), "--pages", "each", "--out", str(found)]) == 0
    content = json.loads((found / "instances.json").read_text())
    assert [(i["file_name"], i.get("page")) for i in content["images"]] == [
        ("plain.tif", None),
        ("stack.tif", 1),
        ("stack.tif", 2),
    ]
    assert main(["measure", str(found), "--out", str(tmp_path / "table.csv")]) == 0
    rows = (tmp_path / "table.csv").read_text().splitlines()[1:]
    names = {"plain.tif", "stack.tif (image 1)", "stack.tif (image 2)"}
    assert {row.split(",")[0] for row in rows} == names
    json_file = str(found / "instances.json")
    assert main(["evaluate", "alpha", json_file, "--data", json_file]) == 0


@pytest.mark.parametrize("model", ["unet", "mask_rcnn", "places"])
def test_a_model_is_fine_tuned_on_the_channels_of_its_run(
    model: str, slides: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.json"
    boxes = [
        {
            "id": n + 1,
            "image_id": n + 1,
            "category_id": 1,
            "iscrowd": 0,
            "area": 400,
            "bbox": [20, 20, 20, 20],
            "segmentation": [[20, 20, 40, 20, 40, 40, 20, 40]],
        }
        for n in range(4)
    ]
    images = [
        {"id": n + 1, "file_name": str(slides / f"{n}.ome.tif"), "height": 64, "width": 64}
        for n in range(4)
    ]
    labels.write_text(
        json.dumps(
            {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cell"}]}
        )
    )
    tuned = genseg.finetune(
        labels,
        run=tmp_path / "run",
        encoder=run,
        recipe=model,
        **{"steps": 1, "batch_size": 2, "augment.size": 64, "data.workers": 0, "threads": 1},
    )
    facts = read_facts(tuned.run / "model.safetensors")
    assert facts["encoder"]["in_channels"] == 2
    assert facts["preparation"]["reading"]["channels"] == "RFP,DAPI"
    found = genseg.predict(tuned.run, slides, out=tmp_path / "found", score=0.0)
    assert found.images == 8 and not found.broken
    assert genseg.evaluate(tuned.run, labels) is not None
    if model == "unet":
        assert genseg.export(tuned.run, tmp_path / "unet.safetensors").tensors > 0


def test_pages_are_refused_until_chosen_and_images_left_out_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the same command again says that it is finished."""
    (tmp_path / "images").mkdir()
    for n in range(6):
        page = Image.new("RGB", (40, 40), (40 * n, 90, 200))
        page.save(tmp_path / f"images/{n}.tif", save_all=True, append_images=[page])
    keys = {k: v for k, v in TINY.items() if not k.startswith(("alpha", "views"))} | {"steps": 1}
    keys |= {"views.first.size": 32, "views.second.size": 32}
    words = [f"{k}={v}" for k, v in keys.items()]
    words += [f"data.path={tmp_path / 'images'}", f"run={tmp_path / 'run'}", "method.hidden=16"]
    words = ["pretrain", "--config", "byol", *words]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "0.tif: it holds " in said and "2 pages (axes IYXS)" in said
    assert "in a recipe data.pages=max; so do 5 more files" in said
    words.append("data.pages=1")
    assert main(words) == 0
    said = capsys.readouterr().err
    assert "note: an epoch leaves out 2 of 6 images, others each time" in said
    assert main(words) == 0
    assert ", finished already" in capsys.readouterr().err


def test_words_of_a_set_are_no_encoders() -> None:
    with pytest.raises(ValueError, match="encoder.in_channels=4, and data.channels makes 3"):
        genseg.pretrain("embedded", run="nowhere", recipe="simclr", **{"encoder.in_channels": 4})
    assert Reading("1,2").inputs == 2 and Reading().inputs == 3
