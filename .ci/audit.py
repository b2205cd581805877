"""What is known against the pinned packages: each comes by its hash, none was withdrawn ("yanked") by its author, and
pip-audit asks the advisory services. Where none answers, as where there are only mirrors of the registries, that is
said, and hashes and withdrawn releases stand alone.

`.venv/bin/python .ci/audit.py`; exit 1 with one line for each package that must not stay.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = [ROOT / "requirements.lock", *sorted(ROOT.glob("*/requirements.lock"))]
PIP = ["-m", "pip", "--disable-pip-version-check"]
TRIED = ["install", "--dry-run", "--ignore-installed", "--no-deps", "--require-hashes"]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs it and gives what it printed."""
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def withdrawn(lock: Path) -> list[str]:
    """What pip says of hashes that differ and of withdrawn releases."""
    for _ in range(3):  # a registry that does not answer is no finding; a hash that differs stays so
        done = run(sys.executable, *PIP, *TRIED, "-r", lock)
        if not done.returncode:
            break
    lines = (done.stdout + done.stderr).splitlines()
    return lines[-3:] if done.returncode else [line for line in lines if "yanked" in line.lower()]


def advisories(lock: Path, pip_audit: Path) -> tuple[int, int, list[str]]:
    """How many packages an advisory service knew, of how many, and a line for each advisory."""
    done = run(pip_audit, "--disable-pip", "--require-hashes", "--progress-spinner=off", "--format=json", "-r", lock)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return 0, 0, []
    known = [package for package in packages if "vulns" in package]
    found = [
        f"{package['name']} {package['version']}: {each['id']}, mended in {', '.join(each['fix_versions']) or 'none'}"
        for package in known
        for each in package["vulns"]
    ]
    return len(known), len(packages), found


def main() -> int:
    """Looks at each lock file; gives the exit code."""
    bad = [line for lock in LOCKS for line in withdrawn(lock)]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python, pip_audit = (Path(folder) / "bin" / name for name in ("python", "pip-audit"))
        run(python, *PIP, "install", "--quiet", "pip-audit")
        for lock in LOCKS if pip_audit.exists() else ():
            known, packages, found = advisories(lock, pip_audit)
            bad += found
            print(f"{lock.relative_to(ROOT)}: {known} of {packages} packages known to an advisory service")
        if not pip_audit.exists():
            print("pip-audit cannot be had here: advisories were not checked")
    for line in bad:
        print(line, file=sys.stderr)
    if not bad:
        print("each package comes by its hash, and none was withdrawn")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
