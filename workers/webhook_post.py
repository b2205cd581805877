"""Posts to an address that was checked: to the very address, within a deadline, following few redirects.

Connections are kept alive, each used by one thread. A watchman cuts those whose deadline has passed, because a socket's
timeout starts anew with each byte, and an endpoint may send one at a time for ever.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPException
from typing import Any
from urllib.parse import urljoin

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from workers.webhook_address import Network, RefusedError, Resolve, Target, check, resolve

REDIRECTS = 3
FOLLOWED = {301, 302, 307, 308}  # with the same method and body; 303 would make it a GET, which delivers nothing
READ = 16_384  # of an answer's body, which says nothing to us, so that its connection can be used again
CUT_EACH = 0.05
RESOLVED_SECONDS = 10.0
RESOLVERS = 32  # a look-up cannot be cut: one that hangs for half a minute must not keep the others waiting
KEPT = 32  # idle connections of a thread
BROKEN = (HTTPError, HTTPException, OSError, ValueError)


@dataclass(frozen=True)
class Answer:
    """What came back: a status, or why there is none."""

    status: int | None
    error: str | None = None
    retry_after: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it was taken."""
        return self.status is not None and 200 <= self.status < 300


class Watchman:
    """Cuts sockets whose deadline has passed."""

    def __init__(self) -> None:
        self._watched: dict[int, tuple[socket.socket, float]] = {}
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="webhooks-watchman")
        self._thread.start()

    def _watch(self) -> None:
        while not self._ends.wait(CUT_EACH):
            now = time.monotonic()
            with self._lock:  # a socket that is let go of is never cut: its connection may be in use again
                for number, (watched, deadline) in list(self._watched.items()):
                    if now >= deadline:
                        del self._watched[number]
                        with contextlib.suppress(OSError):
                            # Not the method of an SSLSocket, which takes its TLS away from the thread that reads.
                            socket.socket.shutdown(watched, socket.SHUT_RDWR)

    @contextlib.contextmanager
    def watching(self, watched: socket.socket, deadline: float) -> Iterator[None]:
        """For the length of a `with` block."""
        with self._lock:
            self._watched[id(watched)] = (watched, deadline)
        try:
            yield
        finally:
            with self._lock:
                self._watched.pop(id(watched), None)

    def end(self) -> None:
        """Stops watching."""
        self._ends.set()
        self._thread.join()


class Poster:
    """Posts for several threads; `close` when they have ended."""

    def __init__(
        self, allowed: Sequence[Network], *, lookup: Resolve = resolve, tls: ssl.SSLContext | None = None
    ) -> None:
        self._allowed = allowed
        self._lookup = lookup
        self._tls = tls or trusted()
        self._watchman = Watchman()
        self._resolvers = ThreadPoolExecutor(RESOLVERS, "webhooks-resolver")
        self._targets: dict[str, tuple[Target, float]] = {}
        self._threads = threading.local()
        self._all: list[dict[Any, HTTPConnection]] = []

    def post(self, url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> Answer:
        """Posts once and follows redirects, all within so many seconds. Never raises for what the other side does."""
        deadline = time.monotonic() + seconds
        try:
            for _ in range(REDIRECTS + 1):
                target = self.target(url, deadline)
                answer, location = self._post(target, body, headers, deadline)
                if answer.status not in FOLLOWED or not location:
                    return answer
                url = urljoin(url, location)
            return Answer(answer.status, f"more than {REDIRECTS} redirects")
        except RefusedError as error:
            return Answer(None, f"refused: {error}")
        except BROKEN as error:
            late = time.monotonic() >= deadline - CUT_EACH or isinstance(error, TimeoutError)
            return Answer(None, f"no answer within {seconds:g} s" if late else f"no answer: {reason(error)}")

    def target(self, url: str, deadline: float) -> Target:
        """Where an address leads; it is looked up again after some seconds."""
        now = time.monotonic()
        known, until = self._targets.get(url, (None, 0.0))
        if known and now < until:
            return known
        looked = self._resolvers.submit(check, url, self._allowed, self._lookup)
        try:
            found = looked.result(max(0.0, deadline - now))
        except FutureTimeoutError:
            looked.cancel()
            raise TimeoutError("the name was not resolved in time") from None
        if len(self._targets) > 1000:
            self._targets.clear()
        self._targets[url] = (found, now + RESOLVED_SECONDS)
        return found

    def _post(
        self, target: Target, body: bytes, headers: Mapping[str, str], deadline: float
    ) -> tuple[Answer, str | None]:
        connection = self._kept().pop(target.place, None)
        if connection is not None and connection.is_connected:
            try:
                return self._exchange(connection, target, body, headers, deadline)
            except BROKEN:
                # Most often it was closed while idle. Being sent twice is harmless, by its id.
                if time.monotonic() >= deadline - CUT_EACH:
                    raise
        return self._exchange(self._connected(target, deadline), target, body, headers, deadline)

    def _connected(self, target: Target, deadline: float) -> HTTPConnection:
        """A new connection to the first of the checked addresses that takes it."""
        for number, address in enumerate(target.addresses, start=1):
            connection = self._connection(target, address)
            connection.timeout = max(0.01, deadline - time.monotonic())
            try:
                connection.connect()
            except BROKEN:
                connection.close()
                if number == len(target.addresses) or time.monotonic() >= deadline:
                    raise
            else:
                return connection
        raise AssertionError("unreachable: a target has an address")

    def _connection(self, target: Target, address: str) -> HTTPConnection:
        if target.scheme == "http":
            return HTTPConnection(address, target.port)
        return HTTPSConnection(
            address, target.port, server_hostname=target.host, assert_hostname=target.host,
            cert_reqs="CERT_REQUIRED", ssl_context=self._tls,
        )  # fmt: skip

    def _exchange(
        self, connection: HTTPConnection, target: Target, body: bytes, headers: Mapping[str, str], deadline: float
    ) -> tuple[Answer, str | None]:  # fmt: skip
        whole = False
        try:
            if connection.sock is None:
                raise OSError("the connection was closed")
            connection.timeout = max(0.01, deadline - time.monotonic())
            connection.sock.settimeout(connection.timeout)
            with self._watchman.watching(connection.sock, deadline):
                connection.request(
                    "POST", target.path, body=body, headers={"host": target.authority, **headers},
                    preload_content=False, decode_content=False,
                )  # fmt: skip
                response = connection.getresponse()
                if time.monotonic() >= deadline:
                    raise TimeoutError("its headers had no end")
                whole = read_off(response) and "close" not in response.headers.get("connection", "").lower()
            answer = Answer(response.status, None, response.headers.get("retry-after"))
            return answer, response.headers.get("location")
        finally:
            kept = self._kept()
            if whole and len(kept) < KEPT:
                kept[target.place] = connection
            else:
                connection.close()

    def _kept(self) -> dict[Any, HTTPConnection]:
        if not hasattr(self._threads, "kept"):
            self._threads.kept = {}
            self._all.append(self._threads.kept)
        kept: dict[Any, HTTPConnection] = self._threads.kept
        return kept

    def close(self) -> None:
        """Closes what is kept alive; the threads that posted have ended."""
        for kept in self._all:
            for connection in kept.values():
                connection.close()
        self._watchman.end()
        self._resolvers.shutdown(wait=False, cancel_futures=True)


@lru_cache(maxsize=1)
def trusted() -> ssl.SSLContext:
    """The certificates that this machine trusts: to read them takes longer than a delivery."""
    return ssl.create_default_context()


def read_off(response: BaseHTTPResponse) -> bool:
    """Reads a short body away; false when it is long or broken: what counts is the status, which has come."""
    try:
        return len(response.read(READ, decode_content=False)) < READ
    except BROKEN:
        return False


def reason(error: BaseException) -> str:
    """The last cause in a line, without the objects that urllib3 prints."""
    words = str(error).rpartition("object at 0x")[2].partition(": ")[2] or str(error)
    return " ".join(words.split())[:200] or type(error).__name__
