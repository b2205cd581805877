"""Settings from files: the folder of ORDERMILL_SECRETS_DIR, as Docker and Kubernetes mount secrets."""

import os
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, SecretsSettingsSource, SettingsError

from workers.errors import SetupError


class SecretFiles(SecretsSettingsSource):
    """The files of that folder, each named as a setting's variable; none where it is not given."""

    def __init__(self, settings: type[BaseSettings]) -> None:
        given = os.environ.get("ORDERMILL_SECRETS_DIR", "")
        # A folder that is not there is reported with the other settings, without a warning beside it.
        super().__init__(settings, given if given and Path(given).is_dir() else None)

    def __call__(self) -> dict[str, Any]:
        """The values; raises SetupError naming a file that cannot be read."""
        try:
            return super().__call__()
        except SettingsError as error:
            cause = error.__cause__
            if isinstance(cause, OSError):
                raise SetupError(
                    f"{cause.filename} cannot be read ({cause.strerror}): give user {os.getuid()} the right to, "
                    "or correct ORDERMILL_SECRETS_DIR"
                ) from error
            raise SetupError(f"ORDERMILL_SECRETS_DIR: {error}: {cause}") from error
