"""Word vectors of class names: what is read, and what of hostile files is said."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from genseg.data.labels.word_vectors import WordsError, class_vectors, dimension, read_vectors

GOOD = "the 1 0 0\ncat 3 4 0\ndog 0 -2e0 0\ntraffic 0 0 5\nlight 1 0 0\nt-shirt 0 1 1\n"


@pytest.fixture
def words(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text(GOOD)
    return tmp_path / "words.txt"


def test_words_are_averaged_and_have_length_one(words: Path) -> None:
    classes = ["cat", "Traffic_light", "t-shirt", "cat-dog"]
    found = class_vectors(words, classes, {})
    assert dimension(words) == 3
    want = [[0.6, 0.8, 0], [1, 0, 5], [0, 1, 1], [1.5, 1, 0]]
    want = [np.array(v) / np.linalg.norm(v) for v in want]
    np.testing.assert_allclose(found, want, atol=1e-12)


def test_classes_are_called_what_names_say(words: Path) -> None:
    found = class_vectors(words, ["no. 5", "cat"], {"no. 5": "dog light"})
    np.testing.assert_allclose(found[0], np.array([1, -2, 0]) / 5**0.5)
    with pytest.raises(WordsError, match="no classes bird; the classes are cat, dog"):
        class_vectors(words, ["cat", "dog"], {"bird": "cat"})


def test_all_unknown_words_are_listed_with_the_remedy(words: Path) -> None:
    with pytest.raises(WordsError) as caught:
        class_vectors(words, ["cat", "longsleeve", "red dog", "x-ray"], {})
    said = str(caught.value)
    assert "lacks the words of 3 of 4 classes" in said
    assert "longsleeve: 'longsleeve'; red dog: 'red'; x-ray: 'x-ray'" in said
    assert 'method.target.names={longsleeve: "word word"}' in said


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds no word vectors"),
        (b"\n \n", "holds no word vectors"),
        (b"just some text\n", "holds no word vectors"),
        (b"word\n", "holds no word vectors"),
        (bytes(range(256)) * 9000, "holds no word vectors"),
        (b"a 1 2\nb 1 2 3\n", "line 2: 3 numbers behind a word, and line 1 has 2"),
        (b"a 1 2\nb 1\n", "line 2: 1 numbers behind a word"),
        (b"a 1 2\ncat 1 x\n", "line 2: what follows 'cat' are not all finite"),
        (b"a 1 2\ncat 1 nan\n", "line 2: what follows 'cat' are not all finite"),
        (b"a 1 2\ncat 1 inf\n", "line 2: what follows 'cat' are not all finite"),
        (b"a 1 2\n" + b"1 " * 600_000, "line 2: it has no end"),
        (gzip.compress(b"cat 1 2\n", mtime=0), "compressed .gzip.; unpack it"),
        (b"cat 0 0\ndog 1 2\n", "the vector of cat is zero"),
        (b"cat 2 4\ndog 1 2\n", "cat and dog have the same word vector"),
    ],
)
def test_what_is_no_such_file_says_so(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "words.txt"
    file.write_bytes(content)
    with pytest.raises(WordsError, match=complaint):
        class_vectors(file, ["cat", "dog"], {})


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(WordsError, match="there is no file of word vectors"):
            class_vectors(path, ["cat", "dog"], {})


def test_odd_lines_that_are_word_vectors(tmp_path: Path) -> None:
    """fastText's head, words with spaces, a word twice, CR LF, no last end of line, odd bytes."""
    file = tmp_path / "words.vec"
    file.write_bytes(b"7 2\r\ncat 1 2\r\n. . . 1 2\nat x@y.z 5 6\ncat 8 9\n\xff\xfe 1 1\ndog 3 4")
    found = read_vectors(file, {"cat", "dog", ". . .", "at x@y.z"})
    assert {word: v.tolist() for word, v in found.items()} == {
        **{"cat": [1, 2], "dog": [3, 4], ". . .": [1, 2], "at x@y.z": [5, 6]}
    }
