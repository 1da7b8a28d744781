"""Where the service is and who asks: from what is said, else the environment, else the configuration file."""

import json
import os
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from foretell.errors import BadConfiguration

URL_VARIABLE: Final = "FORETELL_URL"
KEY_VARIABLE: Final = "FORETELL_KEY"
FILE_VARIABLE: Final = "FORETELL_CONFIG_FILE"
DEFAULT_URL: Final = "http://127.0.0.1:8000"
NAMES: Final = ("url", "key")


@dataclass(frozen=True, kw_only=True)
class Access:
    """The address of a service, and a key for it if it wants one."""

    url: str
    key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str | None = None, key: str | None = None) -> "Access":
        """The access that is said, or configured.

        Raises:
            BadConfiguration
        """
        environment, file = os.environ, read_configuration() if url is None or key is None else {}
        place = url or environment.get(URL_VARIABLE) or file.get("url") or DEFAULT_URL
        secret = key or environment.get(KEY_VARIABLE) or _key_for(place, file) or ""
        return cls(url=checked_url(place), key=checked_key(secret) or None)


def _key_for(url: str, file: Mapping[str, str]) -> str | None:
    """The key in the file, if it is meant for this service: it is shown to no other."""
    meant = file.get("url", DEFAULT_URL)
    return file.get("key") if url.rstrip("/") == meant.rstrip("/") else None


def checked_key(key: str) -> str:
    """A key without blanks around it.

    Raises:
        BadConfiguration
    """
    secret = key.strip()
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise BadConfiguration("The key is none: it begins with ft_ and has no blanks within.")
    return secret


def checked_url(url: str) -> str:
    """An address without a slash at its end.

    Raises:
        BadConfiguration
    """
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        fine = False
    if not fine:
        raise BadConfiguration(f"{url!r} is no address of a service; write it like {DEFAULT_URL}.")
    return url.rstrip("/")


def configuration_file() -> Path:
    """Where the configuration is, by the conventions of the system."""
    if said := os.environ.get(FILE_VARIABLE):
        return Path(said)
    if sys.platform == "win32":
        folder = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support"
    else:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return folder / "foretell" / "config.toml"


def read_configuration() -> dict[str, str]:
    """What the configuration file says; nothing if there is none.

    Raises:
        BadConfiguration
    """
    path = configuration_file()
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise BadConfiguration(f"The configuration in {path} cannot be read: {error}") from error
    wrong = [name for name, value in written.items() if name not in NAMES or not isinstance(value, str)]
    if wrong:
        raise BadConfiguration(f"{wrong[0]} in {path} is nothing that is known; it may have {' and '.join(NAMES)}.")
    return written


def write_configuration(values: Mapping[str, str]) -> Path:
    """Write the configuration file anew, for its owner alone; its path.

    Raises:
        OSError
    """
    path = configuration_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A JSON string is a TOML string too (TOML 1.0, "String"), but for DEL, which neither has.
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".config-")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
