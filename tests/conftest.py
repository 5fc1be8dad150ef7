"""What every test relies on: checked shapes and types, few threads, one cache folder, no network;
and a browser."""

import contextlib
import faulthandler
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MARK = "GENSEG_TESTS"  # of the environment of all that a process of tests starts: its number
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SLOW = (
    "test_readme",
    "test_rounds",
    "test_launch",
    "test_end_of_processes",
    "test_examples",
    "test_energy",
    "test_built_module",
    "test_resume",
    "test_app",
)
# others use the cores, too
SHARED = "PYTEST_XDIST_WORKER" in os.environ or os.environ.get("OMP_NUM_THREADS") == "1"
THREADS = 1 if SHARED else min(2, os.cpu_count() or 1)


def pytest_configure() -> None:
    """Run before any test module is imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(THREADS)
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # its import asks the network for a newer version
    # a test that wants a download fails at once, here and not on a train
    os.environ["HF_HUB_OFFLINE"] = "1"

    import checked

    loaded = sorted(name for name in sys.modules if name.split(".")[0] == "genseg")
    assert not loaded, f"imported before its shapes could be checked: {loaded}"
    checked.install()

    import torch

    torch.set_num_threads(THREADS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes come first, so that processes end together."""
    items.sort(key=lambda item: not item.path.name.startswith(SLOW))


def pytest_sessionfinish() -> None:
    """A process that does not come to its end prints what it waits for, and ends."""
    faulthandler.dump_traceback_later(300, exit=True, file=sys.__stderr__)


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The session's GENSEG_CACHE: scenes are generated once, and the user's own cache is left
    alone."""
    folder = tmp_path_factory.mktemp("genseg_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENSEG_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def nothing_lives_on() -> Iterator[None]:
    """No process that the tests have started outlives them: all that carry their mark are ended.

    Servers of forks hold torch in memory, and that of a run which a test has killed waits for its
    loader's workers, whose parent it is, without end. Loaders of this process end with it.
    """
    os.environ[MARK] = str(os.getpid())
    yield
    psutil = pytest.importorskip("psutil")
    own = {
        os.getpid(),
        *(process.pid for process in multiprocessing.active_children() if process.daemon),
    }
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            marked = process.pid not in own and process.environ().get(MARK) == os.environ[MARK]
            if marked and "resource_tracker" not in " ".join(process.cmdline()):
                process.kill()


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps one state for a process; here one process stands for many commands."""
    yield
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def few_composites() -> Iterator[None]:
    """For a module that trains the alpha task to see something else than its calibration."""
    import composed

    with composed.few_composites():
        yield


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless browser: the system's, driven by Playwright's client, which downloads none. Tests
    that need one are skipped where there is none, and say so."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(
            "no browser: install chromium (Debian: apt-get install chromium) to test pages in one"
        )
    api = pytest.importorskip(
        "playwright.sync_api", reason="pages are tested with Playwright: pip install playwright"
    )
    with api.sync_playwright() as playwright:
        # no sandbox: as root, and in a container, Chromium has none; the pages are our own
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
