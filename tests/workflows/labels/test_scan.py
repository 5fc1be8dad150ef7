"""The report tells what is there: every kind of file, what is broken and why, what is there
twice."""

import json
import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from genseg.core.reading import Reading, reading
from genseg.data.images.kind import Kind
from genseg.workflows.labels.scan import Scan, format_report, scan

RNG = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape).astype(np.uint8)


def every_kind(folder: Path) -> dict[str, tuple[str, str, int, int]]:
    """One readable file of each kind; name -> (format, colours, width, height)."""
    colour, alpha, deep = (
        noise(20, 30, 3),
        noise(20, 30, 4),
        noise(20, 30, 3).astype(np.uint16) * 257,
    )
    sideways = Image.Exif()
    sideways[0x0112] = 6
    rgb = Image.fromarray(colour)
    rgb.save(folder / "a.jpg")
    rgb.save(folder / "turned.JPG", exif=sideways)
    rgb.save(folder / "turned.png", exif=sideways)
    rgb.convert("CMYK").save(folder / "cmyk.jpeg")
    rgb.save(folder / "a.bmp")
    rgb.save(folder / "a.webp")
    rgb.save(folder / "a.ppm")
    rgb.convert("L").save(folder / "grey.png")
    rgb.convert("1").save(folder / "bits.png")
    rgb.quantize(8).save(folder / "palette.gif")
    rgb.quantize(8).save(folder / "clear.png", transparency=0)
    Image.fromarray(alpha).save(folder / "alpha.png")
    cv2.imwrite(str(folder / "deep.png"), deep)
    cv2.imwrite(str(folder / "deepgrey.png"), deep[..., 0])
    tifffile.imwrite(folder / "deep.tif", deep, photometric="rgb")
    tifffile.imwrite(folder / "float.tiff", colour / np.float32(255), photometric="rgb")
    tifffile.imwrite(
        folder / "turned.tif", colour, photometric="rgb", extratags=[(274, "H", 1, 6, True)]
    )
    tifffile.imwrite(
        folder / "turned16.tif",
        deep[..., 0],
        photometric="minisblack",
        extratags=[(274, "H", 1, 8, True)],
    )
    wide, tall = (30, 20), (20, 30)
    return {
        "a.jpg": ("JPEG", "RGB 8 bit", *wide),
        "turned.JPG": ("JPEG", "RGB 8 bit", *tall),
        "turned.png": ("PNG", "RGB 8 bit", *tall),
        "cmyk.jpeg": ("JPEG", "CMYK 8 bit", *wide),
        "a.bmp": ("BMP", "RGB 8 bit", *wide),
        "a.webp": ("WEBP", "RGB 8 bit", *wide),
        "a.ppm": ("PPM", "RGB 8 bit", *wide),
        "grey.png": ("PNG", "grey 8 bit", *wide),
        "bits.png": ("PNG", "black and white 1 bit", *wide),
        "palette.gif": ("GIF", "palette 8 bit", *wide),
        "clear.png": ("PNG", "palette + alpha 8 bit", *wide),
        "alpha.png": ("PNG", "RGB + alpha 8 bit", *wide),
        "deep.png": ("PNG", "RGB 16 bit", *wide),
        "deepgrey.png": ("PNG", "grey 16 bit", *wide),
        "deep.tif": ("TIFF", "RGB 16 bit", *wide),
        "float.tiff": ("TIFF", "RGB float32", *wide),
        "turned.tif": ("TIFF", "RGB 8 bit", *tall),
        "turned16.tif": ("TIFF", "grey 16 bit", *tall),
    }


def test_every_kind_is_told(tmp_path: Path) -> None:
    for name, (kind, colours, width, height) in every_kind(tmp_path).items():
        alone = tmp_path / f"only {name}"
        alone.mkdir()
        (tmp_path / name).rename(alone / name)
        found = scan(alone)
        assert (found.formats, found.modes) == (((kind, 1),), ((colours, 1),)), name
        assert (found.widths, found.heights) == ((width,) * 5, (height,) * 5), name
        assert found.broken == ()


def test_counts_add_up_over_many_files(tmp_path: Path) -> None:
    kinds = every_kind(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    found = scan(str(tmp_path))
    assert found.images == len(kinds)
    assert found.size == sum((tmp_path / name).stat().st_size for name in kinds)
    assert dict(found.formats) == Counter(kind for kind, *_ in kinds.values())
    assert dict(found.modes) == Counter(colours for _, colours, *_ in kinds.values())
    assert [n for _, n in found.formats] == sorted((n for _, n in found.formats), reverse=True)
    assert found.left_out == ((".txt", 1),)
    assert found.classes == () and found.duplicates == () and found.broken == ()


def test_sizes_are_quantiles_that_occur(tmp_path: Path) -> None:
    for i in range(101):
        Image.new("L", (10 + i, 300 - 2 * i)).save(tmp_path / f"{i}.png")
    found = scan(tmp_path)
    assert found.widths == (10, 15, 60, 105, 110)
    assert found.heights == (100, 110, 200, 290, 300)


def test_broken_files_are_listed_with_their_reason(tmp_path: Path) -> None:
    Image.fromarray(noise(40, 40, 3)).save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    Image.fromarray(noise(40, 40, 3)).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-200])
    (tmp_path / "cut.png").write_bytes(whole[:900])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "empty2.png").write_bytes(b"")
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "page.jpg").write_text("<html>")
    found = scan(tmp_path)
    reasons = dict(found.broken)
    assert list(reasons) == [
        "cut.jpg",
        "cut.png",
        "empty.png",
        "empty2.png",
        "lost.png",
        "page.jpg",
    ]
    for name, word in {
        "cut.jpg": "truncated",
        "empty.png": "empty",
        "lost.png": "No such",
        "page.jpg": "<html>",
    }.items():
        assert word in reasons[name]
    assert not any(str(tmp_path) in reason for reason in reasons.values())
    assert found.images == 7 and found.formats == (("PNG", 1),)
    assert found.duplicates == ()  # two empty files are broken, not copies
    text = format_report(found)
    for name, reason in reasons.items():
        assert f"  {name}  {reason}" in text
    assert "7 files" in text and "1 can be read, 6 are broken" in text


def test_no_kind_that_cannot_be_told_ends_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PIL raises a SyntaxError for a damaged header."""
    Image.new("L", (3, 3)).save(tmp_path / "a.png")

    def damaged(data: bytes) -> Kind:
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr("genseg.workflows.labels.scan.kind_of", damaged)
    assert scan(tmp_path).broken == (("a.png", "not a TIFF file"),)


def test_a_damaged_exif_block_is_no_damage_to_the_picture(tmp_path: Path) -> None:
    for suffix in ("jpg", "png"):
        Image.new("RGB", (30, 20)).save(
            tmp_path / f"a.{suffix}", exif=b"Exif\0\0garbage!" + bytes(8), dpi=(72, 72)
        )
    found = scan(tmp_path)
    assert found.broken == () and found.widths == (30,) * 5


def test_a_json_lists_missing_files_as_broken(tmp_path: Path) -> None:
    Image.new("RGB", (8, 9)).save(tmp_path / "a.png")
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"images": [{"file_name": "a.png"}, {"file_name": "b.png"}]}))
    found = scan(path)
    assert found.images == 2 and found.broken == (("images/b.png", "No such file or directory"),)
    assert found.left_out == ()


def test_the_labels_of_a_json_are_told_as_finetune_sees_them(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGB", (40, 30)).save(tmp_path / f"{name}.png")
    square = [[2, 2, 12, 2, 12, 12, 2, 12]]
    listed = [(1, 1, square), (1, 2, square), (1, 3, square), (2, 1, [[1, 1, 2]]), (9, 1, square)]
    annotations = [
        {"id": n, "image_id": i, "category_id": c, "bbox": [2, 2, 10, 10], "segmentation": s}
        for n, (i, c, s) in enumerate(listed, start=1)
    ]
    annotations.append({**annotations[0], "id": 6, "iscrowd": 1})
    images = [{"id": n, "file_name": f"{name}.png"} for n, name in ((1, "a"), (2, "b"))]
    categories = [{"id": n, "name": name} for n, name in ((1, "cell"), (2, "dust"), (4, "none"))]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    found = scan(path).labels
    assert found is not None and found.masks and not found.why
    assert found.counts == (2, 0) and found.crowds == 1 and found.sides == (10, 10)
    assert found.categories == (("cell", 1), ("dust", 1), ("none", 0))
    text = format_report(scan(path))
    assert "labels      2 masks in 2 images, 0 to 2 in each, 1 in the median; 1 crowds" in text
    assert (
        "categories  3: cell 1, dust 1, none 0" in text and "object             10       10" in text
    )
    assert (
        "  1 annotations of an unknown category: left out;  the first: annotation 3 of a.png: 3"
        in text
    )
    assert max(len(line) for line in text.splitlines()) <= 100
    path.write_text(json.dumps(content | {"annotations": annotations[3:4]}))
    assert "labels      none can be used: none of its 1 annotations" in format_report(scan(path))
    for plain in (content | {"annotations": []}, {"images": images}):
        path.write_text(json.dumps(plain))
        assert scan(path).labels is None
    # told, and the images are told all the same
    for odd in ("text", [3], [annotations[0], 3], {"a": 1}):
        path.write_text(json.dumps(content | {"annotations": odd}))
        assert scan(path).images == 2 and (told := scan(path).labels) is not None and told.why


def test_what_holds_more_than_one_picture_is_told_with_what_to_write(tmp_path: Path) -> None:
    page = Image.new("L", (9, 8))
    page.save(tmp_path / "stack.tif", save_all=True, append_images=[page, page])
    page.save(tmp_path / "one.tif")
    text = " ".join(format_report(scan(tmp_path)).split())
    assert "holds 1 channel (axes YX) of 8 bits 1, 3 pages (axes IYX) of 8 bits 1" in text
    assert "Hold more than one picture" in text and "--pages max, each, mean, 1 or 1:3" in text
    with reading(Reading("", "max")):
        assert "Hold more" not in format_report(scan(tmp_path))


def test_channels_bits_pixel_sizes_and_values_are_told(tmp_path: Path) -> None:
    x = np.arange(2 * 8 * 9, dtype=np.uint16).reshape(2, 8, 9) + 100
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        x,
        metadata={
            "axes": "CYX",
            "SignificantBits": 12,
            "PhysicalSizeX": 0.5,
            "PhysicalSizeY": 0.25,
            "Channel": {"Name": ["DAPI", "GFP"]},
        },
    )
    lines = [" ".join(line.split()) for line in format_report(scan(tmp_path)).splitlines()]
    assert "holds 2 channels (1 DAPI, 2 GFP) (axes CYX) of 12 bits 1" in lines
    assert "pixel size 0.5 x 0.25 um 1" in lines
    assert "dapi 100 100.71 135.5 170.29 171" in lines
    assert any(line.startswith("gfp 172 ") for line in lines)


def test_a_home_folder_is_looked_through_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 9)).save(tmp_path / "photos/a.png")
    (tmp_path / "photos/b.heic").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    found = scan("~/photos")
    assert found.images == 1 and found.left_out == ((".heic", 1),)


def test_exact_duplicates_are_grouped_by_content(tmp_path: Path) -> None:
    pixels = [noise(12, 12, 3) for _ in range(3)]
    places = {"x/a.png": 0, "x/b.png": 1, "y/c.png": 0, "y/d.png": 2, "y/e.png": 1, "z/f.png": 0}
    for name, n in places.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels[n]).save(tmp_path / name)
    (tmp_path / "x/g.png").write_bytes((tmp_path / "x/a.png").read_bytes() + b"\0")  # almost
    found = scan(tmp_path)
    assert found.duplicates == (("x/a.png", "y/c.png", "z/f.png"), ("x/b.png", "y/e.png"))
    assert found.classes == (("x", 3), ("y", 3), ("z", 1))
    text = format_report(found)
    assert "3 copies of 2 other files" in text
    assert "    1  x/a.png\n       y/c.png\n       z/f.png\n    2  x/b.png\n       y/e.png" in text
    assert "x 3, y 3, z 1" in text
    cut = format_report(found, groups=1)
    assert "x/b.png" not in cut and "and 1 more groups" in cut


def report(**changes: object) -> Scan:
    plain: dict[str, object] = {
        "path": "pictures",
        "images": 12_345,
        "size": 6_700_000_000,
        "formats": (("JPEG", 12_000), ("PNG", 344)),
        "modes": (("RGB 8 bit", 12_344),),
        "widths": (32, 64, 640, 5_000, 12_000),
        "heights": (1, 2, 3, 4, 5),
        "broken": (("a/b.jpg", "the file is empty"),),
        "duplicates": (),
        "classes": (),
        "left_out": ((".heic", 7),),
    }
    return Scan(**(plain | changes))  # type: ignore[arg-type]


def test_the_text_is_a_table(tmp_path: Path) -> None:
    assert format_report(report()).splitlines() == [
        "pictures",
        "",
        "images      12,345 files, 6,700.0 MB: 12,344 can be read, 1 are broken",
        "formats     JPEG 12,000, PNG 344",
        "colours     RGB 8 bit 12,344",
        "duplicates  none",
        "classes     none",
        "left out    .heic 7: not known as images",
        "",
        "pixels            min      5 %   median     95 %      max",
        "width              32       64      640    5,000   12,000",
        "height              1        2        3        4        5",
        "",
        "Broken files",
        "  a/b.jpg  the file is empty",
    ]


def test_lines_fit_100_columns_and_break_between_entries() -> None:
    many = tuple((f"a class {i}", 1000 + i) for i in range(40))
    long = "f" * 60
    text = format_report(report(classes=many, broken=((long, "bad " * 40), ("b.png", "short"))))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert all(
        line.startswith(("a class", "40: a class"))
        for line in [line[12:] for line in text.splitlines() if "a class" in line]
    )
    assert f"\n  {long}\n      bad bad" in text and text.endswith("  b.png  short")
    assert "\N{NO-BREAK SPACE}" not in text
    hundreds = tuple((str(i), 5 + i) for i in range(300))
    assert "classes     300: 5 to 304 images in each" in format_report(report(classes=hundreds))


def test_all_broken_has_no_sizes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    found = scan(tmp_path)
    assert found.widths == () and "pixels" not in format_report(found)


def test_odd_names_can_be_printed(tmp_path: Path) -> None:
    name = b"caf\xe9\n\x1b[31m.png"
    with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
        pass
    Image.new("L", (3, 3)).save(tmp_path / "café.png")
    text = format_report(scan(tmp_path))
    text.encode("utf-8")
    assert r"caf\udce9\n\x1b[31m.png  the file is empty" in text


def test_nothing_to_scan_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no images"):
        scan(tmp_path)
