"""Who may talk to the live page, and how much it may keep on disk."""

import contextlib
import os
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]

NAMES = ("127.0.0.1", "localhost", "[::1]")  # of this machine alone
FRAMING = 1 << 16  # bytes that a form adds to the file it carries


class Guard:
    """Stands before an ASGI server: refuses whoever is not its own page, and what is too large.

    A web page elsewhere can send its reader's browser here: under a name of its own that it has
    pointed at this machine, which the Host header gives away, or by a form or a script, which the
    Origin header does. Programs of this machine send no Origin, and may come in.

    port: that of the page
    max_mb: largest body of a request
    folder: what the server keeps on disk; before a request with a body its oldest files are
        removed, until all of it has no more than `room_mb` with that body
    """

    def __init__(self, app: Asgi, *, port: int, max_mb: int, room_mb: int, folder: Path) -> None:
        self.app, self.max_mb, self.folder = app, max_mb, folder
        self.most, self.room = (max_mb << 20) + FRAMING, room_mb << 20
        self.hosts = {f"{name}:{port}" for name in NAMES} | (set(NAMES) if port == 80 else set())
        self.origins = {f"http://{host}" for host in self.hosts}
        self.home = f"http://{NAMES[0]}:{port}"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page opens no websocket
            await send({"type": "websocket.close"})
            return
        if refused := self._stranger(scope):
            await _answer(send, 403, refused)
            return
        length = _values(scope, b"content-length")
        if not length and _values(scope, b"transfer-encoding"):
            await _answer(send, 411, "Say how long the body is (Content-Length).")
            return
        size = int(length[0]) if length else 0
        if size > self.most:
            # else the browser shows a broken connection in place of the words
            await _drain(receive)
            await _answer(
                send,
                413,
                f"The file is larger than {self.max_mb} MB, the limit of this page; genseg app "
                f"--max-mb {-((FRAMING - size) >> 20)} raises it.",
            )
            return
        if size:
            make_room(self.folder, self.room - size)
        await self.app(scope, receive, send)

    def _stranger(self, scope: Message) -> str:
        """Why a request is refused; nothing for one of the page's own."""
        if foreign := [h for h in _values(scope, b"host") if h.lower() not in self.hosts]:
            return (
                f"Host {foreign[0]}: this page is at {self.home} alone; forward that port under "
                "the same number."
            )
        if foreign := [o for o in _values(scope, b"origin") if o.lower() not in self.origins]:
            return f"Origin {foreign[0]}: only the page at {self.home} may ask."
        return ""


def make_room(folder: Path, room: int) -> None:
    """Remove the oldest files below a folder until the others have `room` bytes or less."""
    files = sorted(_files(folder))
    total = sum(size for _, size, _ in files)
    for _, size, file in files:
        if total <= room:
            break
        total -= size
        Path(file).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty yet, or gone
            Path(file).parent.rmdir()


def _files(folder: Path) -> Iterator[tuple[int, int, str]]:
    """Date, bytes and path of each file below a folder; others may be removed meanwhile."""
    for root, _, names in os.walk(folder):
        for name in names:
            file = os.path.join(root, name)
            try:
                state = os.lstat(file)
            except FileNotFoundError:
                continue
            yield state.st_mtime_ns, state.st_size, file


def _values(scope: Message, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


async def _drain(receive: Receive) -> None:
    while (message := await receive())["type"] == "http.request" and message.get(
        "more_body", False
    ):
        pass


async def _answer(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
