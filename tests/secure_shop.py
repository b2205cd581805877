"""A shop as docs/security.md sets it up, for tests of that: TLS only, a login for each process, its own passwords."""

import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import pytest
import redis

from tests.servers import or_skipped
from tests.tls import HOST, Certificates, Terminator, only_tls
from tests.workers_fixtures import Mill, clean_environment, ready
from workers.database import connect
from workers.embedded import EmbeddedPostgres
from workers.embedded_valkey import EmbeddedValkey, free_port
from workers.migrate import migrate
from workers.queue_names import GENERAL_QUEUES

SECURITY = (Path(__file__).parents[1] / "docs" / "security.md").read_text(encoding="utf-8")
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
ORDERMILL = Path(sys.executable).parent / "ordermill"
SECRETS = {f"change-me-{number}": f"pw-{number}-{secrets.token_hex(6)}" for number in range(1, 7)}
FLOWER_PASSWORD, SMTP_PASSWORD = f"pw-flower-{secrets.token_hex(6)}", f"pw-smtp-{secrets.token_hex(6)}"


def fence(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", SECURITY, re.MULTILINE | re.DOTALL)
    assert found, language
    return hidden(found[1])


def hidden(text: str) -> str:
    """The text with this run's own passwords for those of the documents."""
    for shown, secret in SECRETS.items():
        text = text.replace(shown, secret)
    return text


@dataclass
class Secure:
    """The servers, and an address of each login."""

    certificates: Certificates
    database_port: int
    redis_port: int
    root_url: str
    said: list[str] = field(default_factory=list)  # what commands have printed
    mill: Mill = field(init=False)
    flower_port: int = 0

    def database(self, user: str, number: int, host: str = HOST, **changes: str) -> str:
        options = {"sslmode": "verify-full", "sslrootcert": str(self.certificates.authority)}
        options |= {"channel_binding": "require"} | changes
        login = f"{user}:{SECRETS[f'change-me-{number}']}"
        return f"postgresql://{login}@{host}:{self.database_port}/ordermill?{urlencode(options)}"

    def redis(self, user: str, number: int, base: int, host: str = HOST, **changes: str) -> str:
        options = {"ssl_ca_certs": str(self.certificates.authority)} | changes
        login = f"{user}:{SECRETS[f'change-me-{number}']}"
        return f"rediss://{login}@{host}:{self.redis_port}/{base}?{urlencode(options)}"

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """`ordermill …`; what it prints is kept, to be looked through for secrets."""
        done = subprocess.run(
            [ORDERMILL, *arguments],
            env=clean_environment() | self.mill.env | env,
            cwd=self.mill.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.said.append(done.stdout + done.stderr)
        return done


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """All processes over these servers, each with the login that the document gives it."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("secure")
    postgres, valkey = EmbeddedPostgres(folder / "postgres", fast=True), EmbeddedValkey(folder / "valkey")
    with or_skipped():
        postgres.start()
        valkey.start()
    certificates = Certificates(folder)
    terminator = Terminator(certificates, valkey.port)
    terminator.start()
    try:
        _make_logins(postgres, valkey)
        only_tls(postgres, certificates, fence("conf"))
        made = Secure(certificates, postgres.port, terminator.port, postgres.url)
        _start(made, folder)
        yield made
        shows_no_secret(made)
        assert made.mill.shop.verify() == []
        made.mill.stop()
    finally:
        terminator.stop()
        valkey.stop()
        postgres.stop()
        postgres.erase()


def _make_logins(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> None:
    """As README has it for PostgreSQL, and docs/security.md for Redis."""
    blocks = re.findall(r"^```sql\n(CREATE ROLE.*?)^```$", README, re.MULTILINE | re.DOTALL)
    setup, logins = (hidden(block) for block in blocks)
    with connect(postgres.url) as root:
        for statement in filter(str.strip, setup.split(";")):
            if "CREATE DATABASE" not in statement:
                root.execute(statement.encode())
        root.execute("ALTER DATABASE ordermill OWNER TO ordermill_admin")
    admin = postgres.url.replace("ordermill:", "ordermill_admin:", 1)
    migrate(re.sub(r":[^:@/]+@", f":{SECRETS['change-me-1']}@", admin))
    with connect(postgres.url) as root:
        root.execute(logins.encode())
    with redis.Redis.from_url(valkey.url) as client:
        for line in fence("acl").splitlines():
            name, *rules = line.split()[1:]
            if name != "default":  # of the wheel's server, it is the one that gives the others
                client.execute_command("ACL", "SETUSER", name, *rules)


def _start(secure: Secure, folder: Path) -> None:
    """Workers, beat and Flower with the logins of workers; the application with its own."""
    shop = {"ssl_cert_reqs": "required"}  # a stock client, which has to say it
    mill = Mill(
        secure.database("ordermill_admin", 1),
        secure.redis("shop", 6, 0, **shop),
        secure.redis("shop", 6, 1, **shop),
        folder,
    )
    secure.mill, secure.flower_port = mill, free_port(None)
    mill.env |= {
        "DATABASE_URL": secure.database("shop_worker", 2),
        "REDIS_URL": secure.redis("mill", 5, 0),
        "CELERY_BROKER_URL": secure.redis("mill", 5, 1),
        "ORDERMILL_CACHE_URL": secure.redis("mill", 5, 2),
        "ORDERMILL_SMTP_URL": f"smtps://ada:{SMTP_PASSWORD}@127.0.0.1:9",
        "ORDERMILL_FLOWER_PASSWORD": FLOWER_PASSWORD,
        "ORDERMILL_FLOWER_PORT": str(secure.flower_port),
    }
    mill.begin_orders_worker()
    general = mill.start_worker("general", ",".join(GENERAL_QUEUES), "-c", "4")
    beat = mill.start("beat", "beat", "-s", str(folder / "beat"), "--pidfile=", "-l", "INFO")
    mill.start("flower", "flower")
    mill.living(1)
    ready(general)
    ready(beat, "beat: Starting")


def sku_of(secure: Secure) -> str:
    name = f"SKU-{secrets.token_hex(4)}"
    secure.mill.shop.stock(name, "E1", 10)
    return name


def shows_no_secret(secure: Secure) -> None:
    texts = {child.name: child.log.read_text(errors="replace") for child in secure.mill.children}
    assert len(texts) >= 4
    assert all(texts.values())
    texts |= {f"command {number}": said for number, said in enumerate(secure.said)}
    for name, text in texts.items():
        for secret in (*SECRETS.values(), FLOWER_PASSWORD, SMTP_PASSWORD):
            assert secret not in text, (name, text)
