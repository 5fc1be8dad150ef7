"""genseg generate: what a kill leaves is gone on with, shards make one result, and files hold what
they should."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from decoded import decode_segmentation

import genseg.data.regions.opened as module
from genseg.alpha.decoder import AlphaDecoder, DecoderConfig
from genseg.alpha.kept import GenerateConfig
from genseg.alpha.model import AlphaModel, Look, load_alpha, save_alpha
from genseg.core.names import ALPHA_NAME, INSTANCES_NAME
from genseg.core.precision import fast_precision
from genseg.data.images.files import ImageList
from genseg.data.instances.instance import cut_instance
from genseg.data.proposals.propose import PROPOSERS
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.runs.folder import RunError, lock
from genseg.workflows.generate.finder import Classical, Wanted, alpha_file, is_proposer
from genseg.workflows.generate.generate import GenerateOptions, generate_folder, generated, shard_of

SIZES = [(64, 64), (40, 70), (33, 65), (96, 64), (64, 50)]
SMALL = DecoderConfig(channels=(16, 16, 8, 8), embedding=5, code=6, hidden=3, tower=8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with random weights that find something everywhere."""
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig())[0]
    look = Look(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), side=0, stretch=True)
    config = GenerateConfig(candidate=0.0, score=0.0)
    root = tmp_path_factory.mktemp("run")
    save_alpha(
        AlphaModel(encoder, AlphaDecoder(encoder, SMALL), look, config),
        root / ALPHA_NAME,
        EncoderConfig(),
    )
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images, one of them in a folder below, and one that is none."""
    root = tmp_path_factory.mktemp("images")
    (root / "deep").mkdir()
    for i, (h, w) in enumerate(SIZES):
        pixels = np.random.default_rng(i).integers(0, 256, (h, w, 3), dtype=np.uint8)
        cv2.imwrite(str(root / ("deep/4.png" if i == 4 else f"{i}.png")), pixels)
    (root / "2a.png").write_bytes(b"not an image")
    return root


def bytes_of(out: Path) -> bytes:
    return (out / INSTANCES_NAME).read_bytes()


@pytest.fixture(scope="module")
def whole(run: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of one undisturbed run."""
    out = tmp_path_factory.mktemp("out") / "whole"
    generate_folder(run, str(folder), out, GenerateOptions())
    return out


def test_labelled_images_are_looked_at_from_the_score_asked_for(
    run: Path, folder: Path, tmp_path: Path
) -> None:
    image = {"id": 1, "file_name": "0.png", "height": 64, "width": 64}
    data = folder / "labels.json"
    data.write_text(json.dumps({"images": [image], "annotations": []}))

    def found(source: Path, score: float | None) -> int:
        made = generated(source, data, tmp_path, alphas=False, wanted=Wanted(score=score))
        return len(json.loads(made.read_text())["annotations"])

    assert found(run, None) > found(run, 1.0) == 0
    # a proposer has no such choice
    assert found(Path("centre"), None) == found(Path("centre"), 1.0) == 1


def test_the_json_holds_what_the_model_finds(run: Path, folder: Path, whole: Path) -> None:
    content = json.loads(bytes_of(whole))
    assert [i["file_name"] for i in content["images"]] == [
        "0.png",
        "1.png",
        "2.png",
        "3.png",
        "deep/4.png",
    ]
    assert [(i["height"], i["width"]) for i in content["images"]] == SIZES
    assert content["categories"] == [{"id": 1, "name": "instance"}]
    numbers = [a["id"] for a in content["annotations"]]
    assert len(set(numbers)) == len(numbers) > 5 and min(numbers) > 0
    model, _ = load_alpha(run / ALPHA_NAME)
    model.precision = fast_precision(torch.device("cpu"))
    for image in content["images"]:
        pixels = cv2.cvtColor(cv2.imread(str(folder / image["file_name"])), cv2.COLOR_BGR2RGB)
        own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        for a, instance in zip(own, model.instances(pixels), strict=True):
            mask = decode_segmentation(a["segmentation"], image["height"], image["width"])
            np.testing.assert_array_equal(mask, instance.paint(*mask.shape) > 127)
            assert a["bbox"] == list(instance.box_xywh) and a["area"] == instance.area
            assert a["score"] == round(instance.score, 5)
        scores = [a["score"] for a in own]
        assert scores == sorted(scores, reverse=True)


def test_damaged_settings_are_told_and_fresh_begins_anew(folder: Path, tmp_path: Path) -> None:
    generate_folder(Path("otsu"), str(folder), tmp_path, GenerateOptions())
    before = bytes_of(tmp_path)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(RunError, match="choose another --out, or --fresh"):
        generate_folder(Path("otsu"), str(folder), tmp_path, GenerateOptions())
    generate_folder(Path("otsu"), str(folder), tmp_path, GenerateOptions(fresh=True))
    assert bytes_of(tmp_path) == before


def test_a_broken_image_is_listed_and_not_fatal(run: Path, folder: Path, whole: Path) -> None:
    name, reason = (whole / "broken.txt").read_text().rstrip("\n").split("\t")
    assert name == "2a.png" and "2a.png" in reason
    said = generate_folder(run, str(folder), whole, GenerateOptions()).text()
    assert "instances in 5 images; 1 image cannot be read" in said


def test_images_that_are_all_broken_are_a_mistake(tmp_path: Path) -> None:
    """It ended as if all were well, with a json of nothing."""
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "photos" / name).write_bytes(b"no")
    out = tmp_path / "found"
    with pytest.raises(ValueError, match=r"no image can be read, the first: .*a\.png"):
        generate_folder(Path("otsu"), str(tmp_path / "photos"), out, GenerateOptions())
    assert len((out / "broken.txt").read_text().splitlines()) == 2
    assert not (out / "instances.json").exists()


@pytest.mark.parametrize(
    "left", ["in the middle of a line", "at the end of a line", "nothing", "a line of zeros"]
)
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(
    run: Path, folder: Path, whole: Path, tmp_path: Path, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_folder(run, str(folder), tmp_path, GenerateOptions())
    assert bytes_of(tmp_path) == bytes_of(whole)
    (part,) = (tmp_path / "parts").iterdir()
    lines = part.read_bytes().splitlines(keepends=True)
    third = lines[2]
    cut = {
        "in the middle of a line": third[: len(third) // 2],
        "at the end of a line": third[:-1],
        "nothing": b"",
    }
    cut["a line of zeros"] = bytes(99) + b"\n"  # as some disks leave when the power goes
    part.write_bytes(b"".join(lines[:2]) + cut[left])
    (tmp_path / INSTANCES_NAME).unlink()
    seen: list[str] = []
    spy(monkeypatch, seen)
    generate_folder(run, str(folder), tmp_path, GenerateOptions())
    # the two that were done are not done again
    assert seen == ["2.png", "2a.png", "3.png", "4.png"]
    assert bytes_of(tmp_path) == bytes_of(whole) and part.read_bytes() == b"".join(lines)


def spy(monkeypatch: pytest.MonkeyPatch, seen: list[str]) -> None:
    """Note which images are decoded."""
    decode = module.decode_image

    def noted(images: ImageList, i: int) -> np.ndarray:
        seen.append(images.path(i).name)
        return decode(images, i)

    monkeypatch.setattr(module, "decode_image", noted)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shards_make_one_result_and_the_last_one_merges(
    run: Path, folder: Path, whole: Path, tmp_path: Path, order: tuple[int, ...]
) -> None:
    for n, shard in enumerate(order):
        assert not (tmp_path / INSTANCES_NAME).exists()
        said = generate_folder(
            run, str(folder), tmp_path, GenerateOptions(shard=shard, shards=3)
        ).text()
        assert ("of 6 images are done" in said) is (n < 2)
    assert bytes_of(tmp_path) == bytes_of(whole)
    assert (tmp_path / "broken.txt").read_bytes() == (whole / "broken.txt").read_bytes()


def test_what_another_number_of_processes_has_found_is_gone_on_with(
    run: Path, folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard in (0, 1):
        generate_folder(run, str(folder), tmp_path, GenerateOptions(shard=shard, shards=3))
    seen: list[str] = []
    spy(monkeypatch, seen)
    generate_folder(run, str(folder), tmp_path, GenerateOptions(shard=1, shards=2))
    # the broken one may have been mended
    assert seen == ["2a.png", "4.png"] and not (tmp_path / INSTANCES_NAME).exists()
    generate_folder(run, str(folder), tmp_path, GenerateOptions())
    assert seen[2:] == ["2.png", "2a.png"] and bytes_of(tmp_path) == bytes_of(whole)
    assert (tmp_path / "broken.txt").read_bytes() == (whole / "broken.txt").read_bytes()


@pytest.mark.parametrize("worlds", [(2, 1), (4, 2), (1, 3), (3, 3, 1)])
def test_shards_of_unequal_numbers_of_processes_look_at_every_image_once(
    worlds: tuple[int, ...],
) -> None:
    options = [GenerateOptions(shard=s, shards=len(worlds)) for s in range(len(worlds))]
    parts = [
        shard_of(Path(), o, rank=r, world=w)
        for o, w in zip(options, worlds, strict=True)
        for r in range(w)
    ]
    assert sorted(i for p in parts for i in range(40)[p.number :: p.count]) == list(range(40))


def test_a_broken_or_changed_image_is_looked_at_again(
    run: Path, folder: Path, whole: Path, tmp_path: Path
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(folder, images)
    generate_folder(run, str(images), out, GenerateOptions())
    assert bytes_of(out) == bytes_of(whole)
    shutil.copy(folder / "3.png", images / "2a.png")
    shutil.copy(folder / "1.png", images / "0.png")
    text = generate_folder(run, str(images), out, GenerateOptions()).text()
    assert "cannot be read" not in text and not (out / "broken.txt").exists()
    fresh = tmp_path / "fresh"
    generate_folder(run, str(images), fresh, GenerateOptions())
    assert bytes_of(out) == bytes_of(fresh)
    assert len(json.loads(bytes_of(out))["images"]) == len(SIZES) + 1


def test_the_images_of_a_json_keep_their_ids(
    run: Path, folder: Path, whole: Path, tmp_path: Path
) -> None:
    ids = {"0.png": 434204, "3.png": 7, "1.png": 12}
    data = folder / "listed.json"
    data.write_text(
        json.dumps(
            {"images": [{"id": n, "file_name": f} for f, n in ids.items()], "annotations": []}
        )
    )
    generate_folder(run, str(data), tmp_path, GenerateOptions())
    found, before = json.loads(bytes_of(tmp_path)), json.loads(bytes_of(whole))
    assert {i["file_name"]: i["id"] for i in found["images"]} == ids
    first = {i["file_name"]: i["id"] for i in before["images"]}
    for name, number in ids.items():
        got, want = (
            [a["segmentation"] for a in c["annotations"] if a["image_id"] == i]
            for c, i in ((found, number), (before, first[name]))
        )
        assert got == want
    assert len({a["id"] for a in found["annotations"]}) == len(found["annotations"])


def test_one_process_at_a_time_works_in_a_folder(run: Path, folder: Path, tmp_path: Path) -> None:
    with lock(tmp_path), pytest.raises(RunError, match="another process is at work in it"):
        generate_folder(run, str(folder), tmp_path, GenerateOptions(fresh=True))
    with lock(tmp_path, ".lock-1"):
        generate_folder(run, str(folder), tmp_path, GenerateOptions(shard=0, shards=2))
        with pytest.raises(RunError, match="another process is at work in it"):
            generate_folder(run, str(folder), tmp_path, GenerateOptions(shard=1, shards=2))


def test_each_model_json_and_score_is_evaluated_in_a_folder_of_its_own(
    run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder / "labels.json"
    data.write_text(json.dumps({"images": [{"id": 1, "file_name": "0.png"}], "annotations": []}))
    model, facts = load_alpha(run / ALPHA_NAME)
    files = []
    for name, least in (("a", 0.0), ("b", 1.0)):
        model.config = replace(model.config, score=least)
        save_alpha(model, tmp_path / f"{name}.safetensors", facts.encoder)
        files.append(
            generated(
                tmp_path / f"{name}.safetensors", data, tmp_path, alphas=False, wanted=Wanted()
            )
        )
    files.append(
        generated(
            tmp_path / "a.safetensors", data, tmp_path, alphas=False, wanted=Wanted(score=1.0)
        )
    )
    many, none, few = (len(json.loads(f.read_text())["annotations"]) for f in files)
    assert many > none == few == 0 and len({f.parent for f in files}) == 3
    monkeypatch.chdir(tmp_path)  # a run that is called like a proposer is a run
    shutil.copytree(run, "tree")
    assert not is_proposer(Path("tree")) and is_proposer(Path("otsu"))
    made = generated(Path("tree"), data, tmp_path, alphas=False, wanted=Wanted(score=1.0))
    assert not json.loads(made.read_text())["annotations"]


def test_proposers_look_at_the_size_asked_for_and_keep_what_is_large_enough() -> None:
    """A disc of 20 pixels across and one of 60, in an image that is shrunk to half."""
    image = np.full((160, 240, 3), 20, np.uint8)
    for at, radius in (((50, 50), 10), ((160, 80), 30)):
        cv2.circle(image, at, radius, (220, 220, 220), -1)
    whole = Classical("otsu").instances(image)
    same = Classical("otsu", Wanted(side=0)).instances(image)
    assert [i.box_xywh for i in same] == [i.box_xywh for i in whole] and len(whole) == 2
    halved = Classical("otsu", Wanted(side=80)).instances(image)
    for a, b in zip(
        *(sorted(found, key=lambda i: i.area) for found in (whole, halved)), strict=True
    ):
        masks = [i.paint(160, 240) > 127 for i in (a, b)]
        assert np.logical_and(*masks).sum() > 0.9 * np.logical_or(*masks).sum()
    (large,) = Classical("otsu", Wanted(min_area=500)).instances(image)
    assert large.area > 2500
    assert len(Classical("otsu", Wanted(min_area=500, side=80)).instances(image)) == 1


def test_more_shards_than_images_still_merge(
    run: Path, folder: Path, whole: Path, tmp_path: Path
) -> None:
    for shard in range(8):
        generate_folder(run, str(folder), tmp_path, GenerateOptions(shard=shard, shards=8))
    assert bytes_of(tmp_path) == bytes_of(whole)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        *((name, GenerateOptions(**{name: True})) for name in ("polygons", "alphas", "cutouts")),
        *(
            (name, GenerateOptions(wanted=Wanted(**{name: n})))
            for name, n in (("score", 1), ("min_area", 99))
        ),
        ("side", GenerateOptions(wanted=Wanted(side=32))),
    ],
)
def test_other_settings_in_the_same_folder_are_refused_unless_fresh(
    run: Path, folder: Path, tmp_path: Path, name: str, changed: GenerateOptions
) -> None:
    few = tmp_path / "few.txt"
    few.write_text(f"{folder}/0.png\n")
    out = tmp_path / "out"
    generate_folder(run, str(few), out, GenerateOptions())
    before = bytes_of(out)
    with pytest.raises(
        RunError, match=f"holds the result of other {name}; choose another --out, or --fresh"
    ):
        generate_folder(run, str(few), out, changed)
    with pytest.raises(RunError, match="other images"):
        generate_folder(run, str(folder), out, GenerateOptions())
    with pytest.raises(RunError, match="other source"):
        generate_folder(Path(next(iter(PROPOSERS))), str(few), out, GenerateOptions())
    assert bytes_of(out) == before
    generate_folder(run, str(few), out, replace(changed, fresh=True))
    settings = json.loads((out / "settings.json").read_text())
    assert settings[name] == getattr(changed if hasattr(changed, name) else changed.wanted, name)
    generate_folder(run, str(few), out, GenerateOptions(fresh=True))
    assert not any((out / pictures).exists() for pictures in ("alphas", "cutouts"))
    (out / "alphas").mkdir()  # not this command's
    generate_folder(run, str(few), out, GenerateOptions(fresh=True))
    assert (out / "alphas").exists()
    assert bytes_of(out) == before


def test_a_fresh_start_does_all_images_again(run: Path, folder: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.txt"
    few.write_text(f"{folder}/0.png\n{folder}/2a.png\n")
    out = tmp_path / "out"
    generate_folder(run, str(few), out, GenerateOptions())
    (part,) = (out / "parts").iterdir()
    want = bytes_of(out)
    part.write_text(part.read_text().replace('"score": 0.', '"score": 1.'))
    generate_folder(run, str(few), out, GenerateOptions())
    assert bytes_of(out) != want  # what is done is believed
    generate_folder(run, str(few), out, GenerateOptions(fresh=True))
    assert bytes_of(out) == want


def test_the_least_score_may_be_raised(
    run: Path, folder: Path, whole: Path, tmp_path: Path
) -> None:
    scores = [a["score"] for a in json.loads(bytes_of(whole))["annotations"]]
    least = sorted(scores)[len(scores) // 2]
    generate_folder(run, str(folder), tmp_path, GenerateOptions(wanted=Wanted(score=least + 1e-4)))
    assert all(a["score"] > least for a in json.loads(bytes_of(tmp_path))["annotations"])


def test_the_least_area_may_be_raised(run: Path, folder: Path, whole: Path, tmp_path: Path) -> None:
    areas = [a["area"] for a in json.loads(bytes_of(whole))["annotations"]]
    least = sorted(areas)[len(areas) // 2] + 1
    generate_folder(run, str(folder), tmp_path, GenerateOptions(wanted=Wanted(min_area=least)))
    found = json.loads(bytes_of(tmp_path))["annotations"]
    assert [a["area"] for a in found] == [a for a in areas if a >= least] != []


def test_a_large_image_is_shrunk_as_trained_or_as_asked_for(
    run: Path, folder: Path, tmp_path: Path
) -> None:
    """A run of short side 32: its own size, which is that of 64, only when it is asked for."""
    model, facts = load_alpha(run / ALPHA_NAME)
    model.look = replace(model.look, side=32)
    (tmp_path / "small").mkdir()
    save_alpha(model, tmp_path / "small" / ALPHA_NAME, facts.encoder)
    one = tmp_path / "one.txt"
    one.write_text(f"{folder}/0.png\n")

    def found(run: Path, name: str, **options: int) -> list[dict[str, object]]:
        generate_folder(run, str(one), tmp_path / name, GenerateOptions(wanted=Wanted(**options)))
        return json.loads(bytes_of(tmp_path / name))["annotations"]

    own, shrunk = found(run, "own"), found(run, "shrunk", side=32)
    assert own != shrunk
    assert found(tmp_path / "small", "trained") == shrunk
    assert (
        found(tmp_path / "small", "native", side=0)
        == found(tmp_path / "small", "larger", side=64)
        == own
    )


def test_alphas_and_cutouts_hold_the_soft_alphas(
    run: Path, folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_folder(run, str(folder), tmp_path, GenerateOptions(alphas=True, cutouts=True))
    assert bytes_of(tmp_path) == bytes_of(whole)
    content = json.loads(bytes_of(whole))
    names = {i["id"]: i["file_name"].removesuffix(".png") for i in content["images"]}
    want = {f"{names[a['image_id']]}-{a['id']}.png" for a in content["annotations"]}
    for kind in ("alphas", "cutouts"):
        found = {
            f.relative_to(tmp_path / kind).as_posix() for f in (tmp_path / kind).rglob("*.png")
        }
        assert found == want
    for a in content["annotations"][::7]:
        name = names[a["image_id"]]
        pixels = cv2.imread(str(folder / f"{name}.png"))
        alpha = cv2.imread(str(tmp_path / f"alphas/{name}-{a['id']}.png"), cv2.IMREAD_UNCHANGED)
        mask = decode_segmentation(a["segmentation"], *alpha.shape)
        assert alpha.dtype == np.uint8 and alpha.shape == pixels.shape[:2]
        np.testing.assert_array_equal(alpha > 127, mask)
        cutout = cv2.imread(str(tmp_path / f"cutouts/{name}-{a['id']}.png"), cv2.IMREAD_UNCHANGED)
        instance = cut_instance(alpha)
        np.testing.assert_array_equal(cutout[..., 3], instance.alpha)
        np.testing.assert_array_equal(cutout[..., :3], pixels[instance.window])


def test_alphas_of_images_outside_the_list_stay_in_their_folder(
    run: Path, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "0.png").write_bytes((folder / "0.png").read_bytes())
    few = tmp_path / "lists" / "few.txt"
    few.write_text(f"../0.png\n{folder}/1.png\n")
    out = tmp_path / "lists" / "out"
    generate_folder(run, str(few), out, GenerateOptions(alphas=True))
    written = set(out.rglob("*-*.png"))
    assert written and written == set((out / "alphas").rglob("*.png"))
    assert sorted(f.name for f in tmp_path.iterdir()) == ["0.png", "lists"]


def test_polygons_in_the_json_are_those_of_the_masks(
    run: Path, folder: Path, whole: Path, tmp_path: Path
) -> None:
    generate_folder(run, str(folder), tmp_path, GenerateOptions(polygons=True))
    one, two = (json.loads(bytes_of(out))["annotations"] for out in (whole, tmp_path))
    assert [{**a, "segmentation": 0} for a in one] == [{**a, "segmentation": 0} for a in two]
    assert all(isinstance(a["segmentation"], list) for a in two)


def test_what_a_user_can_mend_is_named(run: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--fresh would remove what the other shards have found"):
        GenerateOptions(shard=1, shards=2, fresh=True)
    with pytest.raises(ValueError, match="--shard-index 2 of --num-shards 2: use 0 to 1"):
        GenerateOptions(shard=2, shards=2)
    with pytest.raises(ValueError, match=r"there is no .*alpha.safetensors: give a run directory"):
        alpha_file(tmp_path)
    with pytest.raises(ValueError, match="does not exist"):
        generate_folder(run, str(tmp_path / "nowhere"), tmp_path / "out", GenerateOptions())
    assert replace(GenerateOptions(), fresh=True).fresh and not (tmp_path / "out").exists()
