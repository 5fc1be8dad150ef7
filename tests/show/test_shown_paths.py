"""No absolute path is left in a text, whatever stands around it, and what is none stays as it
is."""

import pytest

from genseg.show.paths import short_paths


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/ann/sets/nuclei/train.json", "…/nuclei/train.json"),
        ("/home/ann/x.png", "…/x.png"),
        ("/data", "…/data"),
        ("/home/ann/My images/set 2", "…/My images/set 2"),
        ("data.train=/home/ann/My images/a b.json", "data.train=…/My images/a b.json"),
        ("  path: /home/ann/My images/set 2", "  path: …/My images/set 2"),
        ("path: '/home/ann/My images/set 2'", "path: '…/My images/set 2'"),
        ("C:\\Users\\ann\\sets\\a.json", "…/sets/a.json"),
        ("run=C:/Users/ann/runs/a", "run=…/runs/a"),
        ("\\\\server\\share\\ann\\sets\\a.json", "…/a.json"),
        (
            "/home/ann/s/a.png: truncated; see /home/ann/s/t/b.png",
            "…/s/a.png: truncated; see …/t/b.png",
        ),
        ("a.png\tcannot be read (/home/ann/set/a.png)", "a.png\tcannot be read (…/set/a.png)"),
        ("two of '/home/ann/x/y' and \"/srv/a/b/c\"", "two of '…/x/y' and \"…/b/c\""),
        ("file:///home/ann/sets/a.json", "…/sets/a.json"),
        ("arms: a=/home/ann/runs/a,b=/home/ann/runs/b", "arms: a=…/runs/a,b=…/runs/b"),
    ],
)
def test_absolute_paths_are_cut_to_their_last_parts(text: str, shown: str) -> None:
    assert short_paths(text) == shown
    assert "ann/" not in shown and "ann\\" not in shown and short_paths(shown) == shown
    assert short_paths(f"first\n{text}\nlast") == f"first\n{shown}\nlast"


@pytest.mark.parametrize(
    "text",
    [
        "runs/alpha/a.png",
        "~/sets/a",
        "images/s",
        "TP / (TP + FP + FN)",
        "https://example.org/a/b/c",
        "1/2 and 3 / 4",
        "a and/or b",
        "lr: 0.001",
        "../other/set",
        "s3://bucket/a/b",
        "",
        "/",
    ],
)
def test_what_is_no_absolute_path_stays(text: str) -> None:
    assert short_paths(text) == text
