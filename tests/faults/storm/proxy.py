"""A TCP proxy before a server, which misbehaves when told: it cuts the network, is slow, resets, loses answers.

It runs in a thread of its own, and is told from any other. A network that is cut is one where nothing arrives, and not
one where connections are refused.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

Given = TypeVar("Given")
CHUNK = 65_536
# What a client asks first: whether the server speaks TLS, or GSSAPI. A message of eight bytes, answered by one.
ASKS_FOR_ENCRYPTION = {80_877_103, 80_877_104}
CHANGES = {b"SELECT", b"INSERT", b"UPDATE", b"DELETE", b"MERGE"}  # by SELECT too: a routine


class Replies:
    """Cuts what a PostgreSQL server says into messages, to find those that tell of a commit."""

    def __init__(self) -> None:
        self.rest = bytearray()
        self.held = bytearray()  # from the end of a statement up to the end of its transaction: what one answer tells
        self.tag = b""
        self.idle = self.failed = False

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """The pieces to be passed on, and of each whether it tells that a transaction has been committed.

        By COMMIT, or by a statement alone in autocommit. The server has done it when the client hears of it.
        """
        self.rest += data
        while len(self.rest) >= 5 and len(self.rest) > int.from_bytes(self.rest[1:5]):
            length = 1 + int.from_bytes(self.rest[1:5])
            message = bytes(self.rest[:length])
            del self.rest[:length]
            kind = message[:1]
            self.failed |= kind == b"E"
            if kind == b"C":
                self.tag = message[5:-1].partition(b" ")[0]
            if self.tag and kind != b"Z":
                self.held += message
                continue
            commit = False
            if kind == b"Z":  # ready for the next: idle, or inside a transaction
                was_idle, self.idle = self.idle, message[5:6] == b"I"
                changed = self.tag == b"COMMIT" or (was_idle and self.tag in CHANGES)
                commit = self.idle and changed and not self.failed
                message, self.tag, self.failed = bytes(self.held) + message, b"", False
                self.held.clear()
            yield message, commit


class Proxy:
    """Before the server of this address; `url` is its own, with the same login and database.

    `delay`: seconds that each thing the server says is late; `lost_commits`: the share of commits whose answer is lost,
    and the connection with it; `lost`: how many were. `seed` is of what is lost and reset.
    """

    def __init__(self, url: str, seed: int = 0) -> None:
        self._parts = urlsplit(url)
        self.target = _host_and_port(url)
        self.postgres = self._parts.scheme.startswith("postgres")
        self.rng = random.Random(seed)
        self.delay = self.lost_commits = 0.0
        self.lost = self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._whole = asyncio.Event()
        self._whole.set()
        self._open: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    @property
    def url(self) -> str:
        """Where it answers."""
        login, at, _ = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{login}{at}127.0.0.1:{self.port}"))

    def start(self) -> Self:
        """Listens on a free port of 127.0.0.1."""
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        """Ends it and what goes through it; harmless to repeat."""
        if not self._thread.is_alive():
            return

        async def end() -> None:
            self._server.close()
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

        self._do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def retarget(self, url: str) -> None:
        """Leads to the server of this address instead; who is connected must connect again."""
        self.target = _host_and_port(url)
        self.reset()

    def cut(self) -> None:
        """From now on nothing arrives, in either direction; a new connection is not answered."""
        self._loop.call_soon_threadsafe(self._whole.clear)

    def heal(self) -> None:
        """What is under way arrives."""
        self._loop.call_soon_threadsafe(self._whole.set)

    def reset(self, share: float = 1.0) -> int:
        """Ends this share of the connections as a firewall would, with RST to both sides, and gives how many."""

        async def end() -> int:
            chosen = [task for task in self._open if self.rng.random() < share]
            for task in chosen:
                for writer in self._open[task]:
                    _reset(writer)
                task.cancel()
            return len(chosen)

        return self._do(end())

    def _do(self, what: Coroutine[Any, Any, Given]) -> Given:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = [writer]
        try:
            await self._whole.wait()
            first = await _first_words(reader, writer) if self.postgres else b""
            server_reader, server = await asyncio.open_connection(*self.target)
            self._open[task].append(server)
            server.write(first)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, server))
                both.create_task(self._pump_answers(server_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            _reset(writer)  # the server is away
        except asyncio.CancelledError:
            pass  # it was reset, or all ends
        finally:
            for each in self._open.pop(task):
                each.close()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Passes on what a client says, until either side ends."""
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                await self._whole.wait()
                target.write(data)
                await target.drain()
        await self._whole.wait()
        target.close()

    async def _pump_answers(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Passes on what the server says, but what is lost."""
        replies = Replies()
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                await asyncio.sleep(self.delay)
                await self._whole.wait()
                for piece, commit in replies.feed(data) if self.postgres else [(data, False)]:
                    if commit and self.rng.random() < self.lost_commits:
                        self.lost += 1
                        _reset(target)
                        return
                    target.write(piece)
                await target.drain()
        await self._whole.wait()
        target.close()


async def _first_words(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The first eight bytes of the start of a session, which cannot be encrypted through this proxy."""
    while True:
        words = await reader.readexactly(8)
        if int.from_bytes(words[4:]) not in ASKS_FOR_ENCRYPTION:
            return words
        writer.write(b"N")


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)
