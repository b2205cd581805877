"""The container deployment is backed up and restored to a moment by the commands of docs/backup.md."""

from tests.deploy.deployment import FILES, MARKS, Deployment
from tests.documents import document, fences, section

CHAPTER = section(document("docs/backup.md"), "The container deployment")
BASE = "base-2026-11-24"

pytestmark = MARKS


def test_the_deployment_is_restored_to_a_moment(deployment: Deployment) -> None:
    set_up, each_night, stop, restore, start = (
        [line for line in block.splitlines() if line] for block in fences(CHAPTER, "sh")
    )
    archiving, restored = fences(CHAPTER, "conf")
    variables(deployment, archiving)
    for command in (*set_up, *each_night):
        deployment.typed(command, {"BASE": BASE})
    assert (deployment.submitted("backup-late") or {})["status"] == "placed"
    with deployment.administrator() as owner:
        [[moment]] = owner.execute("SELECT clock_timestamp()::text").fetchall()
        assert (deployment.submitted("backup-lost") or {})["status"] == "placed"
        owner.execute("UPDATE shop.stock_levels SET available = 1000000")  # the accident
    [verify] = (command for command in restore if command.endswith(" verify"))

    for command in stop:
        deployment.typed(command, {})
    variables(deployment, restored)
    said = {command: deployment.typed(command, {"BASE": BASE, "MOMENT": moment}) for command in (*restore, *start)}
    assert "clean" in said[verify]
    assert (deployment.outcome("backup-late") or {})["status"] == "placed"
    assert deployment.outcome("backup-lost") is None
    assert (deployment.submitted("backup-lost") or {})["status"] == "placed"  # as the application sends it again


def variables(deployment: Deployment, conf: str) -> None:
    """These lines of `.env`: of this project, with a volume of its own name, and backups in a volume."""
    given = dict(line.split("=", 1) for line in conf.splitlines())
    given.pop("BACKUP", None)
    given["COMPOSE_FILE"] = given["COMPOSE_FILE"].replace("docker-compose.yml", FILES)
    if "RESTORED" in given:
        given["RESTORED"] = f"{deployment.project}-{given['RESTORED']}"
    deployment.env |= given
