"""The guard of the live page: strangers, bodies that are too large, and the room that files may
take."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from genseg.reports.app_guard import FRAMING, Guard, make_room

HOST = "127.0.0.1:7860"


def asked(
    guard: Guard, body: bytes = b"", *, kind: str = "http", **headers: str
) -> tuple[int, str]:
    """Status and text of the answer to a request."""
    sent: list[dict[str, Any]] = []
    pieces = [body[: len(body) // 2], body[len(body) // 2 :]]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    with ThreadPoolExecutor(1) as pool:  # a browser's client keeps a loop in the main thread
        pool.submit(
            lambda: asyncio.run(guard({"type": kind, "headers": pairs}, receive, send))
        ).result()
    if kind == "websocket":
        return 0, sent[0]["type"]
    return sent[0]["status"], sent[1]["body"].decode()


def guard(folder: Path, **more: int) -> Guard:
    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the page"})

    return Guard(page, **{"port": 7860, "max_mb": 1, "room_mb": 5, **more}, folder=folder)


@pytest.mark.parametrize("host", [HOST, "localhost:7860", "[::1]:7860", "LOCALHOST:7860"])
def test_the_page_itself_comes_in(tmp_path: Path, host: str) -> None:
    assert asked(guard(tmp_path), host=host) == (200, "the page")
    assert asked(guard(tmp_path), host=host, origin=f"http://{host}") == (200, "the page")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7860",
        "127.0.0.1",
        "127.0.0.1:7861",
        "127.0.0.1.evil.example:7860",
        "localhost:7860@evil.example",
        "",
    ],
)
def test_a_name_that_was_pointed_at_this_machine_is_refused(tmp_path: Path, host: str) -> None:
    status, text = asked(guard(tmp_path), host=host)
    assert status == 403 and "http://127.0.0.1:7860" in text
    assert asked(guard(tmp_path), host=host, origin=f"http://{host}")[0] == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "https://127.0.0.1:7860",
        "http://127.0.0.1:8888",
        "http://127.0.0.1",
        "http://127.0.0.1:7860.evil.example",
    ],
)
def test_another_page_is_refused(tmp_path: Path, origin: str) -> None:
    """Among them a plain form of another site, whose browser says where it comes from."""
    status, text = asked(
        guard(tmp_path), b"x" * 100, host=HOST, origin=origin, content_length="100"
    )
    assert status == 403 and origin in text


def test_at_port_80_browsers_leave_the_port_out(tmp_path: Path) -> None:
    assert asked(guard(tmp_path, port=80), host="localhost", origin="http://localhost")[0] == 200


def test_websockets_are_closed(tmp_path: Path) -> None:
    assert asked(guard(tmp_path), kind="websocket", host=HOST) == (0, "websocket.close")


def test_a_body_that_is_too_large_is_refused_with_the_option_that_helps(tmp_path: Path) -> None:
    for size, status in (
        (1 << 20, 200),
        ((1 << 20) + FRAMING, 200),
        ((1 << 20) + FRAMING + 1, 413),
        (7 << 20, 413),
    ):
        got, text = asked(guard(tmp_path), bytes(100), host=HOST, content_length=str(size))
        assert got == status, size
    assert "larger than 1 MB" in text and "--max-mb 7 " in text
    assert asked(guard(tmp_path), host=HOST, transfer_encoding="chunked")[0] == 411  # of any length


def test_the_oldest_files_make_room(tmp_path: Path) -> None:
    for n in range(5):
        (tmp_path / str(n)).mkdir()
        (tmp_path / str(n) / "a.png").write_bytes(bytes(1 << 20))
        os.utime(tmp_path / str(n) / "a.png", (n, n))
    assert asked(guard(tmp_path), host=HOST)[0] == 200  # nothing comes in, nothing goes
    assert len(list(tmp_path.iterdir())) == 5
    asked(guard(tmp_path), host=HOST, content_length=str(1 << 20))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "3", "4"]
    asked(guard(tmp_path), host="evil.example", content_length=str(1 << 20))
    assert len(list(tmp_path.iterdir())) == 4
    make_room(tmp_path, 0)
    assert tmp_path.is_dir() and not list(tmp_path.iterdir())
