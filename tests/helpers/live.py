"""Reports that are written while a command runs, as often as they can be, for tests of what they
say."""

import re
from pathlib import Path
from typing import Any

import pytest

from genseg.reports import report


def watched(patch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """State and seconds of refreshing of each report from now on, in a list that grows."""
    write, seen = report.write_report, list[tuple[str, str]]()

    def written(*given: Any, **named: Any) -> Path:
        file = write(*given, **named)
        seen.extend(
            re.findall(
                r'data-refresh="(\d+)".*?<span class="state \w*">([^<]*)<', file.read_text(), re.S
            )
        )
        return file

    patch.setattr(report, "EARLIEST", 0)
    patch.setattr(report, "PATIENCE", 0)
    patch.setattr(report, "write_report", written)
    return seen
