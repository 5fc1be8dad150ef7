"""CIFAR-10 from class folders, from the binary version and from a download."""

import hashlib
import io
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from archives import contents, encoded, noise, nothing_left, tarred, unpacked, zipped
from PIL import Image


def cifar_zip(classes: tuple[str, ...], *, per_class: int = 2) -> dict[str, bytes]:
    return {
        f"cifar10/{split}/{label}/{i:04d}.jpg": encoded(noise(32, 32, 3, seed=i), "JPEG")
        for split in ("train", "test")
        for label in classes
        for i in range(per_class)
    }


def cifar_rows(labels: list[int], seed: int) -> tuple[bytes, np.ndarray]:
    """A batch of the binary version, by its published layout, and its images as `n 32 32 3`."""
    pixels = noise(len(labels), 32, 32, 3, seed=seed)
    rows = b""
    for label, image in zip(labels, pixels, strict=True):
        rows += bytes([label]) + b"".join(image[:, :, channel].tobytes() for channel in range(3))
    return rows, pixels


def cifar_binary() -> tuple[dict[str, bytes], dict[str, np.ndarray]]:
    """Files of the binary version with two images a batch, and the pixels by the name they get."""
    labels = {f"data_batch_{i}.bin": [i, 9 - i] for i in range(1, 6)} | {"test_batch.bin": [0, 3]}
    names = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    files, wanted, count = {}, {}, {"train": 0, "test": 0}
    for seed, (file, numbers) in enumerate(labels.items()):
        split = "test" if file.startswith("test") else "train"
        files[f"cifar-10-batches-bin/{file}"], pixels = cifar_rows(numbers, seed)
        for label, image in zip(numbers, pixels, strict=True):
            wanted[f"{split}/{names[label]}/{count[split]:05d}.png"] = image
            count[split] += 1
    return files, wanted


@pytest.mark.parametrize("make", [zipped, unpacked])
def test_cifar10_class_folders_are_copied_byte_for_byte(
    make, tmp_path: Path, scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    cifar = scripts["prepare_cifar10"]
    files = cifar_zip(cifar.CLASSES)
    extra = {"cifar10/.DS_Store": b"x", "__MACOSX/cifar10/train/cat/._0.jpg": b"x"}
    source = make(tmp_path / "cifar10.zip", files | extra)
    assert cifar.main([str(source), "--out", str(tmp_path / "out")]) == 0
    assert contents(tmp_path / "out") == {
        name.removeprefix("cifar10/"): data for name, data in files.items()
    }
    said = capsys.readouterr().out
    assert "train 20 images, test 20 images" in said
    assert "the full set has 50,000 and 10,000" in said


def test_cifar10_with_a_class_missing_is_refused(
    tmp_path: Path, scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    cifar = scripts["prepare_cifar10"]
    source = zipped(tmp_path / "c.zip", cifar_zip((*cifar.CLASSES[:9], "lorry")))
    assert cifar.main([str(source), "--out", str(tmp_path / "out")]) == 2
    assert "train/ lacks, or should not have, lorry, truck" in capsys.readouterr().err
    nothing_left(tmp_path, "c.zip")


def test_cifar10_binary_version_keeps_every_pixel(
    tmp_path: Path, scripts: dict[str, ModuleType]
) -> None:
    files, wanted = cifar_binary()
    source = tarred(tmp_path / "cifar-10-binary.tar.gz", files)
    assert scripts["prepare_cifar10"].main([str(source), "--out", str(tmp_path / "out")]) == 0
    made = contents(tmp_path / "out")
    assert set(made) == set(wanted)
    for name, pixels in wanted.items():
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(made[name]))), pixels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda files: {"cifar-10-batches-py/data_batch_1": b"pickle"},
            "made of pickles, which are not read",
        ),
        (
            lambda files: {n: d for n, d in files.items() if "batch_3" not in n},
            "has no data_batch_3.bin",
        ),
        (lambda files: {n: d[:-1] for n, d in files.items()}, "no multiple of 3073"),
        (lambda files: {n: b"\x0a" + d[1:] for n, d in files.items()}, "has label 10"),
    ],
)
def test_cifar10_another_tar_is_refused(
    change,
    message: str,
    tmp_path: Path,
    scripts: dict[str, ModuleType],
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = tarred(tmp_path / "c.tar.gz", change(cifar_binary()[0]))
    assert scripts["prepare_cifar10"].main([str(source), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    nothing_left(tmp_path, "c.tar.gz")


def test_cifar10_a_tar_cut_off_is_refused(tmp_path: Path, scripts: dict[str, ModuleType]) -> None:
    source = tarred(tmp_path / "c.tar.gz", cifar_binary()[0])
    source.write_bytes(source.read_bytes()[:20_000])
    assert scripts["prepare_cifar10"].main([str(source), "--out", str(tmp_path / "out")]) == 2
    nothing_left(tmp_path, "c.tar.gz")


def test_cifar10_download_is_checked_kept_and_not_repeated(
    tmp_path: Path,
    scripts: dict[str, ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By a file: address, which stands for the network."""
    (tmp_path / "far").mkdir()
    far = tarred(tmp_path / "far" / "cifar-10-binary.tar.gz", cifar_binary()[0])
    cifar, near = scripts["prepare_cifar10"], tmp_path / "near"
    command = ["--download", "--out", str(near / "cifar10")]
    monkeypatch.setattr(cifar, "URL", far.as_uri())
    assert cifar.main(command) == 2
    assert "broken on the way" in capsys.readouterr().err
    nothing_left(near)

    monkeypatch.setattr(cifar, "MD5", hashlib.md5(far.read_bytes()).hexdigest())
    assert cifar.main(command) == 0
    nothing_left(near, "cifar10", far.name)
    far.unlink()
    assert cifar.main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert cifar.main(["--download", "--out", str(near / "again")]) == 0  # from the kept file
    assert contents(near / "again") == contents(near / "cifar10")
    # the far one is gone
    assert cifar.main(["--download", "--out", str(tmp_path / "new" / "cifar10")]) == 2


@pytest.mark.parametrize("command", [[], ["a.zip", "--download"]])
def test_cifar10_wants_one_source(command: list[str], scripts: dict[str, ModuleType]) -> None:
    with pytest.raises(SystemExit, match="2"):
        scripts["prepare_cifar10"].main(command)
