"""One thread's way to the cache's Redis: a connection of its own, and what that has given lately.

Redis tells a connection which of the keys that it watches were changed (CLIENT TRACKING), and all that it told is read
before a value is given again: what was deleted is not given. How values are stored is in `workers.cache_store`.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import redis

# A link that died without a word tells nothing. Chosen, not measured: less than an event needs to delete a value.
UNASKED_SECONDS = 0.02
MOST_BYTES = 4 * 2**20  # in one thread; above it all is dropped, and what is read most is soon there again
# Only what is read again so soon is kept: for each key that it watches Redis needs memory, and sends a message. Nothing
# is kept for longer: of a key whose lifetime ended Redis tells when it next looks at it.
SEEN_SECONDS, MOST_SEEN = 1.0, 1_000


class Near:
    """Texts by key, as one MGET would give them; of one thread. `generation` is a key that is read with each."""

    def __init__(self, client: Any, generation: str) -> None:
        pool = client.connection_pool
        self._connection = pool.connection_class(**pool.connection_kwargs)
        self._generation_key = generation
        self._tracks = False
        self._answered = 0.0
        self._generation: bytes | None = None
        self._kept: dict[str, bytes] = {}
        self._bytes = 0
        self._seen: set[str] = set()
        self._seen_since = 0.0

    def read(self, keys: Sequence[str]) -> tuple[bytes | None, list[bytes | None]]:
        """The generation, and the text of each key, None for what is not there; raises `redis.RedisError`."""
        known = self._kept if self._hears() else {}
        texts = {key: known[key] for key in keys if key in known}
        missing = [key for key in keys if key not in texts]
        if not missing:
            return self._generation, [texts[key] for key in keys]
        again = self._seen.issuperset(missing)
        generation, *fresh = self._ask(missing, again)
        found = {key: text for key, text in zip(missing, fresh, strict=True) if text is not None}
        self._see(found)
        if again and self._tracks:
            self._generation = generation
            self._keep(found)
        return generation, [texts[key] if key in texts else found.get(key) for key in keys]

    def forget(self) -> None:
        """Has each next read ask Redis."""
        self._generation = None
        self._kept, self._bytes = {}, 0
        self._seen = set()

    def _see(self, keys: Iterable[str]) -> None:
        if self._answered - self._seen_since > SEEN_SECONDS or len(self._seen) > MOST_SEEN:
            self.forget()
            self._seen_since = self._answered
        self._seen.update(keys)

    def _keep(self, texts: dict[str, bytes]) -> None:
        self._bytes += sum(len(text) - len(self._kept.get(key, b"")) for key, text in texts.items())
        if self._bytes > MOST_BYTES:
            self.forget()
        else:
            self._kept |= texts

    def _hears(self) -> bool:
        """Reads what Redis has told; gives whether it was there just now, so that what is kept may be given."""
        connection = self._connection
        if not self._kept or not connection.is_connected:
            return False
        try:
            while connection.can_read():
                connection.read_response(push_request=True)
        except redis.RedisError:
            self._drop()
            return False
        except BaseException:
            self._drop()
            raise
        return time.monotonic() - self._answered < UNASKED_SECONDS

    def _ask(self, keys: list[str], watch: bool) -> Any:
        """The generation and the texts; `watch`: Redis will tell once when one of these changes.

        A connection that Redis has closed meanwhile is made anew once.
        """
        connection, asked = self._connection, time.monotonic()
        begun = connection.is_connected
        try:
            if not begun:
                self._connect()
            watching = [("CLIENT", "CACHING", "YES")] if watch and self._tracks else []
            commands = [*watching, ("MGET", self._generation_key, *keys)]
            connection.send_packed_command(connection.pack_commands(commands))
            *_, answer = [connection.read_response() for _ in commands]
        except BaseException as error:
            self._drop()  # an answer may still come, and would be taken for that of the next command
            if begun and isinstance(error, redis.ConnectionError):
                return self._ask(keys, watch)
            raise
        self._answered = asked
        return answer

    def _connect(self) -> None:
        connection = self._connection
        self.forget()
        self._tracks = False
        connection.connect()
        if connection.get_protocol() not in (3, "3"):
            return
        connection._parser.set_invalidation_push_handler(self._void)  # as redis-py's own client-side cache does
        connection.send_command("CLIENT", "TRACKING", "ON", "OPTIN")
        try:
            connection.read_response()
        except redis.ResponseError:
            return  # a proxy that cannot, or a login that may not: then Redis is asked each time
        self._tracks = True

    def _drop(self) -> None:
        self._connection.disconnect()
        self.forget()

    def _void(self, message: list[Any]) -> None:
        """What Redis tells: the keys that changed, or None for all of them."""
        names = [name.decode() for name in message[1] or ()]
        if not names or self._generation_key in names:
            self.forget()
        for name in names:
            self._bytes -= len(self._kept.pop(name, b""))
