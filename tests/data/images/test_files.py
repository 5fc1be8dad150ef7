"""Lists, fingerprints and the substitution of broken files. What a file's pixels are:
test_decode.py."""

import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genseg.data.images.files import ImageList, fingerprint, list_images, listing, walk
from genseg.data.images.source import ImageError, ImageSource, decode
from genseg.workflows.labels.scan import scan


def save(path: Path, value: int = 0, size: tuple[int, int] = (6, 4)) -> Path:
    """A PNG of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path, "PNG")
    return path


def refused(path: Path, *words: str) -> None:
    """`list_images` raises a ValueError that holds all words."""
    with pytest.raises(ValueError) as caught:
        list_images(path)
    for word in words:
        assert word in str(caught.value)


# --- folders


def test_a_folder_is_read_sorted_without_hidden_and_other_files(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/z.jpg", "a/deep/er/c.tif", ".hidden.png", ".git/x.png", "a/._z.jpg"):
        save(tmp_path / name)
    (tmp_path / "notes.md").write_text("no image")
    found = list_images(tmp_path)
    assert found == ImageList(tmp_path, ("a/deep/er/c.tif", "a/z.jpg", "b.PNG"))
    assert len(found) == 3 and found.path(1) == tmp_path / "a" / "z.jpg"


def test_class_folders_become_labels(tmp_path: Path) -> None:
    for name in ("dog/2.png", "cat/1.png", "dog/1.png", "ant/7.png"):
        save(tmp_path / name)
    found = list_images(str(tmp_path))
    assert found.classes == ("ant", "cat", "dog")
    named = {
        f: found.classes[label] for f, label in zip(found.files, found.labels or (), strict=True)
    }
    assert named == {
        f: f.split("/")[0] for f in ("ant/7.png", "cat/1.png", "dog/1.png", "dog/2.png")
    }


@pytest.mark.parametrize(
    "names", [("a/1.png", "2.png"), ("a/1.png", "a/2.png"), ("a/1.png", "b/c/2.png")]
)
def test_other_trees_have_no_labels(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        save(tmp_path / name)
    found = list_images(tmp_path)
    assert found.labels is None and found.classes == ()
    assert found.files == tuple(sorted(names))


def test_links_are_followed_and_a_circle_ends(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "x.png")
    root = tmp_path / "root"
    save(root / "sub" / "y.png")
    (root / "far").symlink_to(tmp_path / "elsewhere")
    (root / "sub" / "up").symlink_to(root)
    (root / "file.png").symlink_to(tmp_path / "elsewhere" / "x.png")
    (root / "lost.png").symlink_to(tmp_path / "nowhere.png")
    (root / "self.png").symlink_to(root / "self.png")
    assert list_images(root).files == ("far/x.png", "file.png", "lost.png", "self.png", "sub/y.png")
    for name in ("lost.png", "self.png"):  # listed, so that they are reported
        with pytest.raises(ImageError, match=name):
            decode(root / name)


def test_a_folder_without_images_says_what_was_looked_for(tmp_path: Path) -> None:
    refused(tmp_path, "no images", ".webp", "no files")
    for name in ("a.heic", "b.heic", "c.doc", "LICENSE"):
        (tmp_path / name).write_bytes(b"x")
    refused(tmp_path, ".jpg", "2 .heic", "1 .doc", "1 no suffix")


def test_a_locked_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: Path, really: Callable[[Path], object] = os.scandir) -> object:
        if path.name == "locked":  # root, who may run this test, may read everything
            raise PermissionError(13, "Permission denied")
        return really(path)

    save(tmp_path / "a.png")
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "scandir", scandir)
    refused(tmp_path, "cannot read the folder", "locked")


def test_what_is_no_list_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "absent", "does not exist")
    (tmp_path / "one.csv").touch()
    refused(tmp_path / "one.csv", "neither a folder", "one.csv")


# --- text lists


def text_list(folder: Path, content: str | bytes) -> Path:
    """With one of its images there."""
    (folder / "a.png").touch()
    (folder / "y.png").touch()
    path = folder / "train.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_text_list_with_classes(tmp_path: Path) -> None:
    far = tmp_path / "far" / "b c.png"
    path = text_list(tmp_path, f"\ufeffz.png\tdog\r\n\r\n{far}\tcat\r\n./sub/../y.png\tdog\n")
    found = list_images(path)
    assert found.files == (str(far), "y.png", "z.png")
    assert found.classes == ("cat", "dog") and found.labels == (0, 1, 1)
    assert found.path(0) == far and found.path(2) == tmp_path / "z.png"


def test_a_text_list_without_classes(tmp_path: Path) -> None:
    assert list_images(text_list(tmp_path, "b.png\na.png")) == ImageList(
        tmp_path, ("a.png", "b.png")
    )


def test_a_line_that_begins_with_a_hash_is_a_comment_unless_it_names_a_file(tmp_path: Path) -> None:
    for name in ("a.png", "#b.png"):
        (tmp_path / name).touch()
    (tmp_path / "l.txt").write_text("# plate 1\na.png\n#b.png\n")
    assert list_images(tmp_path / "l.txt").files == ("#b.png", "a.png")


def test_a_list_of_which_no_image_is_there_is_another_file_s(tmp_path: Path) -> None:
    """As one with a class behind a comma, or of another machine."""
    with pytest.raises(
        ValueError,
        match="none of its 2 images is there, the first is c.png,dog; write a path on each",
    ):
        list_images(text_list(tmp_path, "c.png,dog\nd.png,cat\n"))
    with pytest.raises(ValueError, match="line 2: a path cannot hold a zero byte"):
        list_images(text_list(tmp_path, b"a.png\nb\0.png\n"))


def test_runs_among_the_images_are_no_images(tmp_path: Path) -> None:
    for name in ("a.png", "runs/mine/snapshots/0.png", "kept/config.yaml.png", "kept/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "runs/mine/checkpoints").mkdir()
    (tmp_path / "runs/mine/config.yaml").touch()
    assert list_images(tmp_path).files == ("a.png", "kept/b.png", "kept/config.yaml.png")
    assert walk(tmp_path)[1] == {"run of genseg": 1}
    assert list_images(tmp_path / "runs/mine").files == ("snapshots/0.png",)  # asked for by name


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a.png\n\nb.png\tx\ty\n", ["train.txt, line 3", "one tab and a class"]),
        ("a.png\n\tcat\n", ["line 2", "not a path"]),
        ("a.png\t\n", ["line 1"]),
        ("a.png\nb.png\n./a.png\n", ["line 3", "a.png is on line 1"]),
        ("a.png\n\nb.png\tdog\n", ["line 3 and line 1", "class"]),
        ("a.png\tdog\nb.png\n", ["line 2 and line 1", "class"]),
        (b"a.png\n\xff\xfe.png\n", ["line 2", "UTF-8"]),
        ("\n\n", ["lists no images"]),
    ],
)
def test_a_bad_text_list_names_the_line(
    tmp_path: Path, content: str | bytes, words: list[str]
) -> None:
    refused(text_list(tmp_path, content), *words)


# --- COCO


def coco(folder: Path, content: object) -> Path:
    path = folder / "train.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_coco_files_lie_in_images_or_beside_and_missing_ones_are_broken(tmp_path: Path) -> None:
    save(tmp_path / "images" / "in.png", 1)
    save(tmp_path / "beside.png", 2)
    save(tmp_path / "images" / "both.png", 3)
    save(tmp_path / "both.png", 4)
    names = ["in.png", "beside.png", "both.png", "lost.png"]
    found = list_images(coco(tmp_path, {"images": [{"file_name": name} for name in names]}))
    assert found.files == ("beside.png", "images/both.png", "images/in.png", "images/lost.png")
    assert found.labels is None
    source = ImageSource(found, None)
    assert [int(source.read(i)[0][0, 0, 0]) for i in range(4)] == [2, 3, 1, 2]
    assert [source.read(i)[1] for i in range(4)] == [0, 1, 2, 0]
    assert "No such file" in source.broken[3]


def test_cocos_own_layout_has_a_folder_for_each_split(tmp_path: Path) -> None:
    save(tmp_path / "train2017" / "a.png", 1)
    save(tmp_path / "train2017" / "b.png", 2)
    (tmp_path / "annotations").mkdir()
    labels = tmp_path / "annotations" / "instances_train2017.json"
    labels.write_text(
        json.dumps({"images": [{"file_name": name} for name in ("b.png", "a.png", "lost.png")]})
    )
    found = list_images(labels)
    assert found == ImageList(tmp_path / "train2017", ("a.png", "b.png", "lost.png"))
    assert int(ImageSource(found, None).read(1)[0][0, 0, 0]) == 2


def test_a_json_none_of_whose_images_is_there_names_the_folders(tmp_path: Path) -> None:
    labels = tmp_path / "annotations" / "instances_val2017.json"
    labels.parent.mkdir()
    labels.write_text(json.dumps({"images": [{"file_name": "0.jpg"}]}))
    places = [str(tmp_path / p) for p in ("annotations/images", "annotations", "val2017")]
    refused(labels, "none of its 1 images", "0.jpg", ", ".join(places), "move or link")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"images": [\n oops]}', ["no json", "line 2, column 2"]),
        ([1, 2], ['"images"']),
        ({"annotations": []}, ['"images"']),
        ({"images": []}, ["at least one"]),
        ({"images": [{"file_name": "a.png"}, {"id": 3}]}, ["images[1]", "file_name"]),
        (
            {"images": [{"file_name": "a.png"}, {"file_name": "./a.png"}]},
            ["images[1]", "repeats", "a.png"],
        ),
    ],
)
def test_a_bad_json_is_a_clear_error(tmp_path: Path, content: object, words: list[str]) -> None:
    refused(coco(tmp_path, content), "train.json", *words)


def test_a_json_of_wrong_bytes_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'{"images": "\xff"}')
    refused(path, "UTF-8")


def test_a_json_without_end_of_brackets_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[" * 100_000)
    refused(path, "nested without end")


@pytest.mark.parametrize("name", ["a\0.png", "\ud800.png", "a" * 300 + ".png"])
def test_a_name_that_no_file_has_is_one_broken_image(tmp_path: Path, name: str) -> None:
    save(tmp_path / "good.png", 1)
    found = list_images(
        coco(tmp_path, {"images": [{"file_name": "good.png"}, {"file_name": name}]})
    )
    source, bad = (
        ImageSource(found, None),
        next(i for i in range(2) if "good" not in found.files[i]),
    )
    assert source.read(bad)[1] == 1 - bad and list(source.broken) == [bad]
    assert len(fingerprint(found)) == len(listing(found)) == 32


def test_a_pipe_is_a_broken_image(tmp_path: Path) -> None:
    save(tmp_path / "good.png", 1)
    os.mkfifo(tmp_path / "pipe.png")
    found = list_images(tmp_path)
    source = ImageSource(found, None)
    assert source.read(1)[1] == 0 and "no regular file" in source.broken[1]
    assert len(fingerprint(found)) == 32
    assert "no regular file" in str(scan(tmp_path).broken)


# --- fingerprint


def test_the_fingerprint_follows_names_sizes_and_content_and_nothing_else(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for root in (one, other):
        save(root / "a.png", 1)
        (root / "big.png").write_bytes(bytes(200_000))
        (root / "c.png").symlink_to(root / "absent")
    os.utime(other / "a.png", (0, 0))
    seen = {fingerprint(list_images(one))}
    assert seen == {fingerprint(list_images(other))}
    assert re.fullmatch("[0-9a-f]{32}", seen.pop())

    def changed() -> str:
        return fingerprint(list_images(one))

    seen = {changed()}
    for at in (0, 70_000, 199_999):  # content alone, in the start, the middle and the end
        data = bytearray(200_000)
        data[at] = 1
        (one / "big.png").write_bytes(data)
        seen.add(changed())
    (one / "big.png").write_bytes(bytes(200_001))
    seen.add(changed())
    (one / "a.png").rename(one / "b.png")
    seen.add(changed())
    (one / "c.png").unlink()
    (one / "c.png").write_bytes(b"")
    seen.add(changed())
    assert len(seen) == 7


@pytest.mark.parametrize("name", ["a.zarr", "a.mrxs"])
def test_an_image_that_is_a_folder_has_the_fingerprint_and_size_of_its_files(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "a.zarr" if name == "a.zarr" else tmp_path / "a"
    (folder / "0").mkdir(parents=True)
    chunk, whole = folder / "0" / "c", list[tuple[str, int]]()
    if name == "a.mrxs":
        (tmp_path / name).write_bytes(b"head")
    for content in (b"12", b"34", b"345"):
        chunk.write_bytes(content)
        os.utime(chunk, ns=(0, len(whole)))
        listed = ImageList(tmp_path, (name,))
        whole.append((fingerprint(listed), listed.bytes(0) - 4 * (name == "a.mrxs")))
    assert len({digest for digest, _ in whole}) == 3
    assert [size for _, size in whole] == [2, 2, 3]
    assert fingerprint(listed) == whole[-1][0]


def test_the_fingerprint_does_not_depend_on_the_parts_it_is_computed_in(tmp_path: Path) -> None:
    for i in range(300):  # more than one part of 256
        (tmp_path / f"{i:03}.png").write_bytes(b"%d" % i)
    first = fingerprint(list_images(tmp_path))
    assert first == fingerprint(list_images(tmp_path))
    (tmp_path / "299.png").write_bytes(b"298")
    assert first != fingerprint(list_images(tmp_path))


# --- ImageSource


def mixed(folder: Path) -> ImageSource:
    """Five files, of which the 0th, 3rd and 4th are broken."""
    for i in (1, 2):
        save(folder / f"{i}.png", 10 * i)
    for i in (0, 3, 4):
        (folder / f"{i}.png").write_bytes(b"broken")
    return ImageSource(list_images(folder), None)


def test_the_next_readable_image_stands_in_for_a_broken_one(tmp_path: Path) -> None:
    source = mixed(tmp_path)
    for asked, given in {0: 1, 1: 1, 2: 2, 3: 1, 4: 1}.items():
        image, index = source.read(asked)
        assert index == given and (image == 10 * given).all() and image.shape == (4, 6, 3)
    assert sorted(source.broken) == [0, 3, 4] and len(source) == 5
    assert str(tmp_path / "3.png") in source.broken[3]


def test_the_stand_in_does_not_depend_on_what_was_read_before(tmp_path: Path) -> None:
    orders = np.random.default_rng(0).permuted(np.tile(np.arange(5), (8, 1)), axis=1)
    source = mixed(tmp_path)
    for order in orders.tolist():
        source = (
            pickle.loads(pickle.dumps(source)) if order[0] % 2 else ImageSource(source.images, None)
        )
        assert {i: source.read(i)[1] for i in order} == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1}


def test_a_file_found_broken_stays_so(tmp_path: Path) -> None:
    """Otherwise an epoch would shift when a file is mended during a run."""
    source = mixed(tmp_path)
    source.read(3)
    save(tmp_path / "3.png")
    assert source.read(3)[1] == 1


def test_without_any_readable_image_there_is_an_error(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"none of 3 images.*0\.png: the file is empty"):
        ImageSource(list_images(tmp_path), None).read(1)


def test_a_wrong_index_is_an_error(tmp_path: Path) -> None:
    source = mixed(tmp_path)
    for i in (-1, 5):
        with pytest.raises(IndexError):
            source.read(i)


def test_one_image_and_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (5, 4)).save(tmp_path / "a.PNG")
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (tmp_path / "a.PNG", "~/a.PNG"):
        assert list_images(path) == ImageList(tmp_path, ("a.PNG",))
    assert list_images("~").files == ("a.PNG",)


def test_ids_of_a_json_are_kept_where_all_have_one(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        Image.new("RGB", (5, 4)).save(tmp_path / name)
    for ids, numbers in (
        ((7, 3), (3, 7)),
        ((0, 5), (5, 0)),
        ((7, 7), (1, 2)),
        (("7", 3), (1, 2)),
        ((None, 3), (1, 2)),
    ):
        entries = [{"file_name": f, "id": n} for f, n in zip(("b.png", "a.png"), ids, strict=True)]
        (tmp_path / "c.json").write_text(json.dumps({"images": entries}))
        found = list_images(tmp_path / "c.json")
        assert found.files == ("a.png", "b.png") and tuple(map(found.number, range(2))) == numbers
