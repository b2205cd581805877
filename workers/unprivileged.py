"""Running PostgreSQL as another user, because it refuses root: which user, in which folder, with which binaries.

A checkout often lies below a home that only root may enter, so data (and, when need be, a copy of the binaries) go to a
folder of root's under /var/tmp, named after the home it belongs to.
"""

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from workers.home_folder import ServiceError

SHARED = Path("/var/tmp")  # noqa: S108  # checked below: root's own folder, never followed through a link


@dataclass(frozen=True)
class Account:
    """The user that PostgreSQL runs as in root's stead."""

    uid: int
    gid: int

    def popen_arguments(self) -> dict[str, int | list[int]]:
        """What `subprocess` needs to run as this user, in none of root's groups."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def server_account() -> Account | None:
    """Who PostgreSQL is to run as; None: ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise ServiceError("PostgreSQL does not run as root and there is no user `postgres` or `nobody`: set DATABASE_URL")


def private_folder(home: Path, parent: Path = SHARED) -> Path:
    """Root's folder for this home, which others may pass through but not list or change; made when missing."""
    folder = parent / f"ordermill-{hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:12]}"
    try:
        folder.mkdir(mode=0o711)
        folder.chmod(0o711)  # whatever the umask
    except FileExistsError:
        pass
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ServiceError(f"{folder} is not a folder of this user alone: remove it, or set DATABASE_URL")
    return folder


def runs(binary: Path, account: Account | None) -> bool:
    """Whether that user can really run the binary on this machine; found by trying."""
    arguments = account.popen_arguments() if account else {}
    try:
        tried = subprocess.run(  # type: ignore[call-overload]
            [binary, "--version"], cwd="/", env={"LC_ALL": "C"}, capture_output=True, check=False, **arguments
        )
    except OSError:
        return False
    return bool(tried.returncode == 0)


def copied_server(original: Path, version: str, folder: Path) -> Path:
    """A copy of the server in a folder that others can reach; made once a version."""
    copy = folder / f"server-{version}"
    if copy.is_dir():
        return copy
    for old in folder.glob("server-*"):
        shutil.rmtree(old)
    unfinished = folder / "server-unfinished"
    shutil.copytree(original, unfinished, symlinks=True)
    for path in (unfinished, *unfinished.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    unfinished.rename(copy)
    return copy
