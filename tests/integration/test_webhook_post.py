"""Posting to real servers: to the address that was checked, within the deadline, with few redirects, kept alive."""

import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.hooks import LOCAL, Receiver, receiver
from workers.webhook_address import resolve
from workers.webhook_post import Poster

ALLOWED = (ip_network(LOCAL),)


@pytest.fixture
def poster() -> Iterator[Poster]:
    made = Poster(ALLOWED)
    yield made
    made.close()


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def test_posts_on_one_connection_until_the_other_side_closes_it(poster: Poster, there: Receiver) -> None:
    for _ in range(3):
        assert poster.post(there.url, b"{}", {}, 30).status == 200
    assert there.connections == 1

    there.answer = lambda _got: (200, {"connection": "close"})
    assert poster.post(there.url, b"{}", {}, 30).ok
    there.answer = lambda _got: (503, {"retry-after": "7"})
    assert poster.post(there.url, b"{}", {}, 30).retry_after == "7"
    assert there.connections == 2
    assert there.got[0].headers["host"] == f"127.0.0.1:{there.port}"


def test_an_address_that_is_not_allowed_gets_no_connection(there: Receiver) -> None:
    closed = Poster(())
    try:
        answer = closed.post(there.url, b"{}", {}, 30)
    finally:
        closed.close()

    assert (answer.status, there.connections) == (None, 0)
    assert "not on the public internet" in (answer.error or "")


def test_a_redirect_is_followed_with_the_same_body_and_at_most_three(poster: Poster, there: Receiver) -> None:
    def answer(got: object) -> tuple[int, dict[str, str]]:
        path = there.got[-1].path if there.got else ""
        return (307, {"location": "/again"}) if len(there.got) % 5 < 2 else (200, {"x": path})

    there.answer = answer
    assert poster.post(there.url, b'{"a":1}', {"webhook-id": "1"}, 30).status == 200
    assert [got.path for got in there.got] == ["/hook", "/again", "/again"]
    assert {got.body for got in there.got} == {b'{"a":1}'}

    there.got.clear()
    there.answer = lambda _got: (302, {"location": "/again"})
    answered = poster.post(there.url, b"{}", {}, 30)
    assert (answered.status, answered.error, len(there.got)) == (302, "more than 3 redirects", 4)
    there.answer = lambda _got: (303, {"location": "/again"})
    assert not poster.post(there.url, b"{}", {}, 30).ok


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/latest", "http://localhost.:1/", "http://[::1]/", "ftp://x/", "http://u:p@127.0.0.1/"],
)
def test_a_redirect_to_where_it_may_not_go_is_refused(there: Receiver, location: str) -> None:
    only_there = Poster(
        (ip_network("127.0.0.1/32"),), lookup=lambda h, p: ["127.0.0.2"] if h == "localhost." else resolve(h, p)
    )
    there.answer = lambda _got: (307, {"location": location})
    try:
        answer = only_there.post(there.url, b"{}", {}, 30)
    finally:
        only_there.close()

    assert (answer.status, len(there.got)) == (None, 1)
    assert (answer.error or "").startswith("refused")


def test_it_connects_to_the_address_that_was_checked_though_the_name_has_moved_meanwhile(there: Receiver) -> None:
    """The resolver is asked once: nothing looks the name up again between the check and the connection."""
    asked: list[str] = []

    def moving(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    pinned = Poster(ALLOWED, lookup=moving)
    try:
        assert pinned.post(f"http://moving.example:{there.port}/hook", b"{}", {}, 30).ok
    finally:
        pinned.close()
    assert asked == ["moving.example"]
    assert there.got[0].headers["host"] == f"moving.example:{there.port}"


def test_the_next_address_of_a_name_is_tried_where_one_does_not_take_a_connection(there: Receiver) -> None:
    two = Poster(ALLOWED, lookup=lambda _host, _port: ["127.0.0.9", "127.0.0.1"])
    try:
        assert two.post(f"http://two.example:{there.port}/", b"{}", {}, 30).ok
    finally:
        two.close()


@pytest.mark.parametrize(("where", "seconds"), [("headers", 0.4), ("body", 5)])  # its headers must come in time
def test_an_endpoint_that_drips_is_cut_at_the_deadline(
    poster: Poster, there: Receiver, ticks: list[int], where: str, seconds: float
) -> None:
    there.trickle = where
    before = len(ticks)
    answer = poster.post(there.url, b"{}", {}, seconds)

    assert len(ticks) - before < (seconds + 1.6) * 20
    # With the status line and all headers it has said what it has to say.
    assert answer.ok == (where == "body")
    assert answer.ok or "within" in (answer.error or "")


def test_an_endpoint_that_never_answers_and_a_resolver_that_hangs_are_left_at_the_deadline(
    there: Receiver, ticks: list[int]
) -> None:
    gate = there.gate = threading.Event()

    def hanging(_host: str, _port: int) -> list[str]:
        gate.wait(60)
        return ["127.0.0.1"]

    before = len(ticks)
    for poster, url in ((Poster(ALLOWED), there.url), (Poster(ALLOWED, lookup=hanging), "http://x.example/")):
        answer = poster.post(url, b"{}", {}, 0.3)
        assert (answer.status, answer.error) == (None, "no answer within 0.3 s")
        poster.close()
    assert len(ticks) - before < 4 * 20


def test_a_port_where_nobody_listens_is_one_line(poster: Poster) -> None:
    answer = poster.post("http://127.0.0.1:1/", b"{}", {}, 30)

    assert answer.status is None
    assert answer.error == "no answer: Failed to establish a new connection: [Errno 111] Connection refused"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, made = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", made, "-subj", "/CN=hooks.example", "-addext", "subjectAltName=DNS:hooks.example"],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, made


def test_tls_is_checked_for_the_name_though_the_address_is_what_is_connected_to(
    certificate: tuple[Path, Path], there: Receiver
) -> None:
    key, made = certificate
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made, key)
    secure = ThreadingHTTPServer(("127.0.0.1", 0), there.server.RequestHandlerClass)
    secure.socket = server.wrap_socket(secure.socket, server_side=True)
    threading.Thread(target=secure.serve_forever, args=(0.02,), daemon=True).start()
    trusting = ssl.create_default_context(cafile=str(made))
    port = secure.server_address[1]
    named = Poster(ALLOWED, lookup=lambda _host, _port: ["127.0.0.1"], tls=trusting)
    strict = Poster(ALLOWED, lookup=lambda _host, _port: ["127.0.0.1"])
    try:
        assert named.post(f"https://hooks.example:{port}/", b"{}", {}, 30).status == 200
        other = named.post(f"https://other.example:{port}/", b"{}", {}, 30)
        unknown = strict.post(f"https://hooks.example:{port}/", b"{}", {}, 30)
    finally:
        named.close()
        strict.close()
        secure.shutdown()
        secure.server_close()

    assert "hostname 'other.example' doesn't match" in (other.error or ""), other
    assert "certificate verify failed" in (unknown.error or ""), unknown
    assert len(there.got) == 1
