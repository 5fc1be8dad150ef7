"""The cache gives what decoding gives, survives damage, races and full disks, and leaves nothing
partial."""

import errno
import json
import multiprocessing
import os
import pickle
import shutil
import threading
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from genseg.data.images import cache, source
from genseg.data.images.cache import CachedImages, CacheError, build_cache, cache_folder
from genseg.data.images.files import ImageList, list_images
from genseg.data.images.source import ImageError, ImageSource, decode

SIDE = 8


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("GENSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def images(tmp_path: Path) -> ImageList:
    """Twelve pictures of several shapes and formats; the 0th, 5th and 11th are broken."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(12):
        size = ((20, 13), (9, 30), (5, 6))[i % 3]
        path = folder / f"{i:02}.{('png', 'jpg', 'bmp')[i % 3]}"
        Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8)).save(path)
        if i in (0, 5, 11):
            path.write_bytes(path.read_bytes()[:40])
    return list_images(folder)


def visible(store: Path) -> list[str]:
    """What lies in the cache, lock files aside."""
    return sorted(p.name for p in store.iterdir() if p.suffix != ".lock")


def check(found: CachedImages, images: ImageList, side: int = SIDE) -> None:
    """Every image is what decode() gives."""
    assert len(found) == len(images)
    assert sorted(found.broken) == [0, 5, 11]
    for i in set(range(12)) - {0, 5, 11}:
        np.testing.assert_array_equal(found.image(i), decode(images.path(i), short_side=side))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("side", [SIDE, 1000])
def test_the_cache_holds_the_shrunk_images_in_order(
    images: ImageList, store: Path, workers: int, side: int
) -> None:
    found = build_cache(images, side=side, workers=workers)
    check(found, images, side)
    assert found.image(1).shape == ((9, 30, 3) if side == 1000 else (8, 27, 3))
    assert found.image(2).shape == (5, 6, 3)  # never enlarged
    meta = json.loads((found.folder / "meta.json").read_text())
    assert [(b["index"], b["file"]) for b in meta["broken"]] == [
        (0, "00.png"),
        (5, "05.bmp"),
        (11, "11.bmp"),
    ]
    assert found.broken[0] and not any(
        str(images.root) in reason for reason in found.broken.values()
    )
    assert visible(store) == [found.folder.name]


def test_a_source_gives_the_same_with_and_without_the_cache(images: ImageList, store: Path) -> None:
    plain, cached = (
        ImageSource(images, None),
        ImageSource(images, build_cache(images, side=1000, workers=2)),
    )
    for given in (cached, pickle.loads(pickle.dumps(cached))):
        for i in range(12):
            (a, m), (b, n) = plain.read(i), given.read(i)
            assert m == n
            np.testing.assert_array_equal(a, b)
        assert given.broken == plain.broken


def test_pixels_are_mapped_not_copied(images: ImageList, store: Path) -> None:
    found = build_cache(images, side=SIDE, workers=1)
    image = found.image(3)
    assert np.shares_memory(image, found.image(3)) and not image.flags.writeable
    assert not np.shares_memory(image, found.image(4))
    assert len(pickle.dumps(found)) < 1000


def test_a_second_call_decodes_nothing(
    images: ImageList, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_cache(images, side=SIDE, workers=1)
    monkeypatch.setattr(source, "decode", None)
    check_folder = build_cache(images, side=SIDE, workers=1).folder
    assert check_folder == first.folder
    moved = images.root.with_name("moved")
    shutil.copytree(images.root, moved)  # the same content elsewhere is the same cache
    assert build_cache(list_images(moved), side=SIDE, workers=1).folder == first.folder


def test_what_a_disk_has_refused_is_asked_for_again(
    images: ImageList, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refused(path: Path, *, short_side: int = 0, **told: object) -> np.ndarray:
        asked.append(path.name)
        if path == images.path(3):
            raise ImageError(f"{path}: Input/output error") from OSError(
                errno.EIO, "Input/output error"
            )
        return decode(path, short_side=short_side)

    with monkeypatch.context() as during:
        during.setattr(source, "decode", refused)
        assert sorted(build_cache(images, side=SIDE, workers=1).broken) == [0, 3, 5, 11]
        asked.clear()
        assert sorted(build_cache(images, side=SIDE, workers=1).broken) == [0, 3, 5, 11]
        assert asked == [images.path(3).name]  # and nothing else
    again = build_cache(images, side=SIDE, workers=1)
    assert (
        sorted(again.broken) == [0, 5, 11]
        and (again.image(3) == decode(images.path(3), short_side=SIDE)).all()
    )


def test_another_size_or_content_is_another_cache(images: ImageList, store: Path) -> None:
    folders = {build_cache(images, side=side, workers=1).folder for side in (SIDE, SIDE + 1)}
    Image.new("RGB", (9, 9)).save(images.path(4))
    folders.add(build_cache(images, side=SIDE, workers=1).folder)
    assert len(folders) == 3 and len(visible(store)) == 3


def test_a_finished_cache_needs_no_right_to_write(
    images: ImageList, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_cache(images, side=SIDE, workers=1)
    monkeypatch.setattr(Path, "mkdir", None)  # root may write anywhere: nothing is even tried
    monkeypatch.setattr(cache, "_only_one", None)
    check(build_cache(images, side=SIDE, workers=1), images)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def edit(**changes: object):  # type: ignore[no-untyped-def]
    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def shift(path: Path) -> None:
    index = np.load(path)
    index[3, 0] += 1
    np.save(path, index)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("images.bin", cut),
        ("images.bin", Path.unlink),
        ("index.npy", cut),
        ("index.npy", shift),
        ("index.npy", lambda path: path.write_bytes(b"")),
        ("index.npy", lambda path: np.save(path, np.zeros(3))),
        ("meta.json", cut),
        ("meta.json", lambda path: path.write_text("[]")),
        ("meta.json", edit(version=cache.VERSION - 1)),
        ("meta.json", edit(broken=[])),
        ("meta.json", edit(images=13)),
    ],
)
def test_a_stale_or_damaged_cache_is_made_anew(
    images: ImageList, store: Path, name: str, damage
) -> None:  # type: ignore[no-untyped-def]
    found = build_cache(images, side=SIDE, workers=1)
    before = (found.folder / name).read_bytes()
    damage(found.folder / name)
    check(build_cache(images, side=SIDE, workers=1), images)
    assert (found.folder / name).read_bytes() == before
    assert visible(store) == [found.folder.name]


def test_what_a_killed_run_left_is_removed(images: ImageList, store: Path) -> None:
    key = build_cache(images, side=SIDE, workers=1).folder
    shutil.rmtree(key)
    left = store / f".{key.name}.part-dead"
    left.mkdir()
    (left / "images.bin").write_bytes(bytes(99))
    other = store / ".another-8.part-alive"
    other.mkdir()
    check(build_cache(images, side=SIDE, workers=1), images)
    assert visible(store) == [other.name, key.name]


class FullDisk:
    """A file that takes no more than a few bytes."""

    def __init__(self, file: object) -> None:
        self.file, self.room = file, 500

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def __enter__(self) -> "FullDisk":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()  # type: ignore[attr-defined]

    def write(self, data: memoryview) -> None:
        self.room -= data.nbytes
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(
    images: ImageList, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = Path.open

    def opened(path: Path, mode: str = "r", *args: object, **options: object) -> object:
        file = really(path, mode, *args, **options)  # type: ignore[call-overload]
        return FullDisk(file) if path.name == "images.bin" and mode == "wb" else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(CacheError, match="No space left on device.*GENSEG_CACHE"):
            build_cache(images, side=SIDE, workers=2)
    assert visible(store) == []
    check(build_cache(images, side=SIDE, workers=2), images)  # and with room it goes on


def test_an_interrupted_build_leaves_nothing(
    images: ImageList, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(path: Path, **told: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(source, "decode", stop)
    with pytest.raises(KeyboardInterrupt):
        build_cache(images, side=SIDE, workers=2)
    assert visible(store) == []


def test_a_folder_that_cannot_be_made_is_a_clear_error(
    images: ImageList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GENSEG_CACHE", str(tmp_path / "file"))
    with pytest.raises(CacheError, match="Not a directory.*GENSEG_CACHE"):
        build_cache(images, side=SIDE, workers=1)


def build_elsewhere(images: ImageList, start: Any, done: Any) -> None:
    """In another process: build, and say how many images were decoded."""
    with patch.object(source, "decode", wraps=source.decode) as decode:
        start.wait()
        build_cache(images, side=SIDE, workers=1)
    done.put(decode.call_count)


def test_of_several_processes_one_works_and_all_get_the_cache(
    images: ImageList, store: Path
) -> None:
    context = multiprocessing.get_context("fork")
    start, done = context.Barrier(3), context.Queue()
    others = [context.Process(target=build_elsewhere, args=(images, start, done)) for _ in range(3)]
    for process in others:
        process.start()
    counts = sorted(done.get(timeout=60) for _ in others)
    for process in others:
        process.join()
    assert counts == [0, 0, 12]
    check(build_cache(images, side=SIDE, workers=1), images)
    assert len(visible(store)) == 1


def test_without_locks_the_loser_takes_the_winner_s(
    images: ImageList, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads decode at once, neither sees the other until it renames."""
    monkeypatch.setattr(cache, "fcntl", None)
    meeting = threading.Barrier(2)
    written = cache._write

    def write_together(*args: object, **options: object) -> None:
        meeting.wait(20)
        written(*args, **options)  # type: ignore[arg-type]
        meeting.wait(20)

    monkeypatch.setattr(cache, "_write", write_together)
    found: list[CachedImages] = []
    threads = [
        threading.Thread(target=lambda: found.append(build_cache(images, side=SIDE, workers=1)))
        for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    for each in found:
        check(each, images)
    assert visible(store) == [found[0].folder.name]


def test_all_broken_and_bad_numbers(tmp_path: Path, store: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    images = list_images(tmp_path)
    assert build_cache(images, side=SIDE, workers=1).broken == {0: "the file is empty"}
    assert build_cache(images, side=SIDE, workers=1).broken == {0: "the file is empty"}
    for side, workers in ((0, 1), (8, 0)):
        with pytest.raises(ValueError, match="1 or more"):
            build_cache(images, side=side, workers=workers)


def test_the_cache_folder_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GENSEG_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("GENSEG_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "genseg"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "genseg"
