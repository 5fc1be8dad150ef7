"""Texts that a run leaves are whole, whoever writes them and whatever they hold."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from genseg.train.run import write_text


def test_a_file_name_that_is_no_text_is_written_all_the_same(tmp_path: Path) -> None:
    write_text(tmp_path / "broken.txt", os.fsdecode(b"M\xfcller.jpg") + "\tMüller\n")
    assert (tmp_path / "broken.txt").read_bytes() == b"M\\udcfcller.jpg\tM\xc3\xbcller\n"


def test_of_several_writers_one_stays_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    texts = [str(n) * 100_000 for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_text(file, text), texts * 4))
    assert file.read_text() in texts and [f.name for f in tmp_path.iterdir()] == [file.name]
