"""genseg embed, group and choose: with random weights, which see brightness at least."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from app_runs import SMALL
from found import DISCS, disc, write_found

import genseg
import genseg.data.regions.opened as opened
import genseg.workflows.vectors.group as grouping
from genseg.alpha.decoder import AlphaDecoder
from genseg.alpha.kept import GenerateConfig
from genseg.alpha.mine import mine
from genseg.alpha.model import AlphaModel, Look, load_alpha, save_alpha
from genseg.cli import main
from genseg.core.names import ALPHA_NAME, ENCODER_NAME
from genseg.core.precision import fast_precision
from genseg.data.images.source import ImageError, decode
from genseg.data.instances.coco import annotation
from genseg.data.instances.instance import Instance
from genseg.data.labels.labelled_set import read_labelled
from genseg.data.regions.scene import Scene
from genseg.measure.coverage import k_center, typical
from genseg.nn.encoder import Encoder, EncoderConfig
from genseg.nn.encoder_file import EncoderFacts, save_encoder
from genseg.reports.instances.grouped import write_grouped
from genseg.workflows.finetune.cells import arm_of, chosen_labels, parse_arms
from genseg.workflows.vectors.choose import By
from genseg.workflows.vectors.group import clusters

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """run/ with both models, found/ with alphas, photos/ with seven pictures, one of them broken,
    and two pairs alike."""
    place = tmp_path_factory.mktemp("vectors")
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig())
    config = GenerateConfig(candidate=0, score=0.02, min_area=1)
    model = AlphaModel(encoder, AlphaDecoder(encoder, SMALL), Look(MEAN, STD, 512, True), config)
    (place / "run").mkdir()
    save_alpha(model, place / "run" / ALPHA_NAME, EncoderConfig())
    facts = EncoderFacts(EncoderConfig(), "none", MEAN, STD, 64)
    save_encoder(encoder, place / "run" / ENCODER_NAME, facts)
    write_found(place)
    (place / "photos").mkdir()
    rng = np.random.default_rng(0)
    for n, light in enumerate((10, 10, 90, 170, 170, 250)):
        noise = rng.integers(0, 6, (40, 48, 3)) + light - 3
        cv2.imwrite(str(place / f"photos/{n}.png"), noise.clip(0, 255).astype(np.uint8))
    (place / "photos/6.png").write_bytes(b"no")
    (place / "done.txt").write_text("photos/0.png\nphotos/3.png\n")
    return place


def test_vectors_are_those_of_the_model_in_every_format(place: Path) -> None:
    model = genseg.load(place / "run")
    result = genseg.embed(place / "run", place / "photos", place / "v.npz")
    assert (result.of, result.count, result.width) == ("images", 6, 512)
    assert "6 images, 512 numbers each; 1 image cannot be read" in result.text()
    kept = np.load(place / "v.npz")
    assert kept["image"].tolist() == [f"{n}.png" for n in range(6)]
    files = [place / f"photos/{n}.png" for n in range(6)]
    np.testing.assert_allclose(kept["vectors"], model.embed(files), rtol=1e-4, atol=1e-5)
    genseg.embed(place / "run", place / "photos", place / "v.csv")
    with (place / "v.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", *(f"v{n}" for n in range(512))]
    read = np.array(rows[1:])[:, 1:].astype(float)
    np.testing.assert_allclose(read, kept["vectors"], rtol=1e-6, atol=1e-9)


def test_instances_have_vectors_over_their_soft_maps(place: Path) -> None:
    result = genseg.embed(place / "run", place / "found", place / "i.npz", score=0.6)
    assert (result.of, result.count, result.broken) == ("instances", 4, ())
    kept = np.load(place / "i.npz")
    assert kept["id"].tolist() == [101, 102, 201, 202]
    discs = [disc(*one) for one in DISCS[:2]]
    model = genseg.load(place / "run")
    wanted = model.embed_instances(place / "images/discs.png", discs, masked=True)
    np.testing.assert_allclose(kept["vectors"][:2], wanted, rtol=1e-3, atol=1e-4)
    plain = model.embed_instances(place / "images/discs.png", discs)
    assert not np.allclose(plain, wanted, rtol=1e-3)


def test_of_large_images_windows_are_embedded(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of the whole ones, which are never held; the same of groups and of what is chosen."""
    found = write_found(tmp_path)
    for n, file in enumerate(sorted((tmp_path / "images").iterdir())):
        pixels = cv2.imread(str(file))[..., ::-1]
        file.unlink()
        tifffile.imwrite(tmp_path / f"images/{n}.tif", pixels, photometric="rgb", tile=(32, 32))
    names = {"images": tmp_path / "images", "run": place / "run"}
    content = json.loads((found / "instances.json").read_text())
    for n, image in enumerate(content["images"]):
        image["file_name"] = f"{(1, 0, 2)[n]}.tif"
    (found / "instances.json").write_text(json.dumps(content))

    def made(name: str) -> list[np.ndarray]:
        out = tmp_path / name
        out.mkdir()
        genseg.embed(names["run"], names["images"], out / "v.npz")
        genseg.embed(names["run"], found, out / "i.npz")
        genseg.choose(names["run"], names["images"], out / "next.txt", count=2)
        shown = genseg.group(found, out / "g.json", k=2, run=names["run"]).shown
        vectors = [np.load(out / file)["vectors"] for file in ("v.npz", "i.npz")]
        assert len(vectors[1]) == 6
        chosen = np.array((out / "next.txt").read_text().split())
        return [*vectors, chosen, *(s.pixels for group in shown for s in group)]

    whole = made("whole")
    monkeypatch.setattr(opened, "LARGE", 1000)
    monkeypatch.delattr(opened, "decode_image")
    monkeypatch.delattr(opened, "decode")
    for windows, other in zip(made("windows"), whole, strict=True):
        np.testing.assert_array_equal(windows, other)


def test_an_image_that_is_damaged_further_down_costs_no_other(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its window raised where the vectors of all images are made, and nothing was written."""
    found = write_found(tmp_path)
    content = json.loads((found / "instances.json").read_text())
    for image in content["images"]:
        file = tmp_path / "images" / image["file_name"]
        pixels = cv2.imread(str(file))[..., ::-1]
        file.unlink()
        image["file_name"] = f"{file.stem}.tif"
        large, more = file.with_suffix(".tif"), {"tile": (32, 32), "compression": "zlib"}
        tifffile.imwrite(large, pixels, photometric="rgb", **more)
    (found / "instances.json").write_text(json.dumps(content))
    damaged = tmp_path / "images" / content["images"][0]["file_name"]
    with tifffile.TiffFile(damaged) as tiff:
        page = tiff.pages.first
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    data = bytearray(damaged.read_bytes())
    for offset, size in places:
        data[offset : offset + size] = bytes(size)
    damaged.write_bytes(data)
    monkeypatch.setattr(opened, "LARGE", 1000)
    result = genseg.embed(place / "run", found, tmp_path / "v.npz")
    assert result.count == 3 and len(result.broken) == 1 and damaged.name in result.broken[0]
    assert genseg.group(found, tmp_path / "g.json", k=2, run=place / "run").broken == result.broken


def test_a_margin_that_cannot_be_read_costs_its_cut_out_alone(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The json was there, and an error in place of the page."""
    found = write_found(tmp_path)

    def torn(*window: int) -> np.ndarray:
        raise ImageError("a damaged tile")

    read, first = grouping.pixels_of, sorted((tmp_path / "images").iterdir())[0]
    monkeypatch.setattr(
        grouping,
        "pixels_of",
        lambda path, page: Scene(torn, (40, 48, 3)) if path == first else read(path, page),
    )
    result = genseg.group(found, tmp_path / "g.json", k=2, run=place / "run")
    shown = sum(map(len, result.shown))
    assert sum(result.counts) == 6 and 0 < shown < 6 and result.unseen == 6 - shown
    assert f"note: {result.unseen} cut-outs left out of the page" in str(result)
    assert write_grouped(result).is_file()


def test_pages_that_are_images_have_names_of_their_own(place: Path, tmp_path: Path) -> None:
    """A list named one file several times, and was refused by whoever read it."""
    stack = np.random.default_rng(0).integers(0, 255, (3, 40, 48)).astype(np.uint8)
    np.save(tmp_path / "a.npy", stack)
    with genseg.reading(pages="each"):
        genseg.embed(place / "run", tmp_path, tmp_path / "v.npz")
        with pytest.raises(ValueError, match="a list names files and not their pages"):
            genseg.choose(place / "run", tmp_path, tmp_path / "next.txt", count=2)
    names = [f"a.npy (image {n})" for n in (1, 2, 3)]
    assert np.load(tmp_path / "v.npz")["image"].tolist() == names
    assert not (tmp_path / "next.txt").exists()


def test_instances_are_embedded_as_their_result_was_read(place: Path, tmp_path: Path) -> None:
    """The run had seen other files, and said nothing of pages."""
    stack = np.random.default_rng(0).integers(0, 255, (3, 40, 48)).astype(np.uint8)
    np.save(tmp_path / "a.npy", stack)
    square = Instance(np.full((16, 12), 255, np.uint8), 10, 20)
    one = annotation(square, number=4, image=1, height=40, width=48) | {"category_id": 1}
    content = {
        "info": {"reading": {"channels": "", "pages": "max"}},
        "images": [{"id": 1, "file_name": "a.npy", "height": 40, "width": 48}],
        "annotations": [one],
        "categories": [{"id": 1, "name": "disc"}],
    }
    (tmp_path / "found.json").write_text(json.dumps(content))
    genseg.embed(place / "run", tmp_path / "found.json", tmp_path / "v.npz")
    vectors = np.load(tmp_path / "v.npz")["vectors"]
    wanted = genseg.load(place / "run").embed_instances(stack.max(0), [square], masked=True)
    np.testing.assert_allclose(vectors, wanted, rtol=1e-4, atol=1e-5)


def test_groups_are_those_of_the_look_and_the_same_again(place: Path) -> None:
    rng = np.random.default_rng(0)
    middles = np.eye(3, 8)
    truth = np.repeat([0, 1, 2], (5, 20, 9))
    vectors = (middles[truth] + rng.normal(0, 0.05, (34, 8))) * rng.uniform(1, 9, (34, 1))
    groups, near = clusters(vectors, 3)
    assert np.bincount(groups).tolist() == [20, 9, 5], "the largest first"
    assert all(len(set(groups[truth == t])) == 1 for t in range(3)) and near.min() > 0.9
    for found, wanted in zip(clusters(vectors, 3), (groups, near), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_json_of_groups_is_one_of_labels_and_the_page_shows_them(place: Path) -> None:
    words = ["--k", "2", "--run", str(place / "run"), "--out", str(place / "g/groups.json")]
    assert main(["group", str(place / "found"), *words]) == 0
    content = json.loads((place / "g/groups.json").read_text())
    assert [c["name"] for c in content["categories"]] == ["group 1", "group 2"]
    assert {a["id"] for a in content["annotations"]} == {101, 102, 103, 201, 202, 203}
    of = {a["id"]: a["category_id"] for a in content["annotations"]}
    assert all(of[100 + n] == of[200 + n] for n in (1, 2, 3)), "both images are the same"
    page = (place / "g/groups.html").read_text()
    assert page.count("<figure>") == 6 and "--names" in page
    again = genseg.group(
        place / "found", place / "g/n.json", k=2, run=place / "run", names=["<a>", "b"]
    )
    labelled, _ = read_labelled(place / "g/n.json", masks=True)
    assert labelled.categories == ((1, "<a>"), (2, "b")) and sum(again.counts) == 6
    assert again.counts[0] >= again.counts[1] and "<a>:" not in (place / "g/n.html").read_text()
    assert [s.number for s in again.shown[0]][0] in of


@pytest.mark.parametrize(("by", "choice"), [("k-center", k_center), ("typical", typical)])
def test_chosen_images_stand_for_all(place: Path, by: By, choice: Callable[..., list[int]]) -> None:
    photos = place / "photos"
    result = genseg.choose(place / "run", photos, place / "next.txt", count=4, by=by)
    vectors = genseg.load(place / "run").embed([photos / f"{n}.png" for n in range(6)])
    wanted = [f"photos/{n}.png" for n in choice(vectors, 4)]
    assert list(result.files) == wanted == (place / "next.txt").read_text().splitlines()
    assert len({min(int(f[7]), 9) for f in wanted} & {0, 1}) == 1, "of two alike one is enough"
    more = genseg.choose(
        place / "run", photos, place / "more.txt", count=2, by=by, labelled=place / "done.txt"
    )
    assert list(more.files) == [f"photos/{n}.png" for n in choice(vectors, 2, [0, 3])]
    drawn = [
        genseg.choose("any", photos, place / "r.txt", count=3, by="random", seed=s).files
        for s in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_uncertain_images_are_those_in_which_two_looks_differ(place: Path) -> None:
    model, _ = load_alpha(place / "run" / ALPHA_NAME)
    model.precision = fast_precision(torch.device("cpu"))
    doubts = {}
    for n in range(3):
        image = decode(place / f"photos/{n}.png")
        sure = model.config.score
        agreement = mine(model, image, [], sure=sure, doubtful=sure, agreement=0.6).agreement
        doubts[f"photos/{n}.png"] = 0.0 if agreement is None else 1 - agreement
    (place / "three.txt").write_text("".join(f"{name}\n" for name in doubts))
    result = genseg.choose(
        place / "run", place / "three.txt", place / "u.txt", count=2, by="uncertainty"
    )
    wanted = sorted(doubts, key=lambda name: (-doubts[name], name))[:2]
    assert list(result.files) == wanted
    np.testing.assert_allclose(result.uncertain, [doubts[n] for n in wanted])
    both = genseg.choose(place / "run", place / "three.txt", place / "b.txt", count=2, by="both")
    centres = genseg.choose(
        place / "run", place / "three.txt", place / "k.txt", count=2, by="k-center"
    )
    assert set(both.files) == set(centres.files), "the pool holds all of so few"


def test_compare_labels_the_first_images_of_a_list(place: Path) -> None:
    (place / "set.json").write_text((place / "found/instances.json").read_text())
    labelled, _ = read_labelled(place / "set.json", masks=True)
    names = [image.path for image in labelled.images]
    (place / "l.txt").write_text("".join(f"{p.relative_to(place)}\n" for p in names[::-1]))
    numbers = [image.number for image in labelled.images]
    assert chosen_labels(labelled, 1, place / "l.txt") == numbers[-1:]
    assert chosen_labels(labelled, 3, place / "l.txt") == sorted(numbers)
    with pytest.raises(ValueError, match=r"l\.txt lists 3 images; --labels wants 4"):
        chosen_labels(labelled, 4, place / "l.txt")
    with pytest.raises(ValueError, match=r"photos/0\.png is no image of .*set\.json"):
        chosen_labels(labelled, 1, place / "done.txt")
    arms = parse_arms("random=runs/a,b=runs/a@x/next.txt,runs/a@p.yaml@next.txt")
    assert [a.name for a in arms] == ["random", "b", "a-p-next"]
    assert [str(a.chosen) for a in arms] == ["None", "x/next.txt", "next.txt"]
    assert [str(a.config) for a in arms] == ["None", "None", "p.yaml"]
    assert arm_of("b", "runs/a@x/next.txt") == arms[1], "as genseg.compare takes it from a mapping"
    with pytest.raises(ValueError, match="two lists or two recipes"):
        parse_arms("runs/a@x.txt@y.txt")


def test_mistakes_are_one_line_and_code_2(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, found, photos = (str(place / name) for name in ("run", "found", "photos"))
    for words, said in (
        (["embed", run, photos, "--out", "v.txt"], "end it in .npz, .csv, .parquet"),
        (["embed", found, photos, "--out", "v.npz"], "give a run directory that has encoder."),
        (["group", found, "--k", "1", "--out", "g.json"], "k=1: use 2 or more"),
        (["group", found, "--k", "2", "--out", "g.json"], "does not say which run has found"),
        (["group", found, "--k", "9", "--run", run, "--out", "g.json"], "there are 6 instances"),
        (["group", found, "--k", "2", "--names", "a", "--out", "g.json"], "give 2 different names"),
        (["choose", run, photos, "--count", "9", "--out", "n.txt"], "there are 7 images without"),
        (["choose", run, photos, "--count", "7", "--out", "n.txt"], "only 6 images can be read"),
        (["choose", run, photos, "--count", "2", "--out", "n.csv"], "end it in .txt"),
        (
            ["choose", found, photos, "--count", "2", "--by", "both", "--out", "n.txt"],
            "or --by k-center",
        ),
    ):
        assert main(words) == 2
        assert said in capsys.readouterr().err
    assert not list(Path().glob("n.txt"))
