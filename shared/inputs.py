"""Where a batch job's file may lie: in the service's own storage, or below a prefix that the operator allowed."""

from pathlib import Path

from shared.batch import Input
from shared.errors import FileMissing, InvalidRequest
from shared.file_limits import FileLimits
from shared.outside import OutsideFiles
from shared.place import Place
from shared.settings import Settings
from shared.storage import Storage


class Inputs:
    """The files that jobs may read."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._own = storage
        self.limits = FileLimits.of(settings)
        self._prefixes = {prefix: Place.parse(prefix) for prefix in settings.input_prefixes.split()}
        self._others: dict[str | None, Storage] = {}  # by bucket; None: this machine

    def open(self, given: Input) -> tuple[Storage, str]:
        """The storage and the key of a job's file, which need not be there.

        Raises:
            InvalidRequest: uri_not_allowed.
        """
        if given.uri is None:
            if given.key is None:
                raise ValueError("an input has a key or a uri")
            return self._own, given.key
        place = self._allowed(given.uri)
        if place.bucket not in self._others:
            self._others[place.bucket] = Storage(Place(place.bucket, "").url) if place.bucket else OutsideFiles()
        return self._others[place.bucket], place.path

    def check(self, uri: str) -> int:
        """The size of the file that a client names, bytes.

        Raises:
            InvalidRequest: uri_not_allowed, uri_not_found.
            StorageFailed
        """
        storage, key = self.open(Input(uri=uri))
        try:
            return storage.size(key)
        except FileMissing as error:
            raise _fault("uri_not_found", f"There is no file {uri}.") from error

    def _allowed(self, uri: str) -> Place:
        """The place with its symbolic links resolved, so that none of them leads out of what is allowed."""
        try:
            place = Place.parse(uri)
        except ValueError as error:
            raise _fault("uri_not_allowed", f"uri {error}.") from error
        real = _resolved(place)
        if not any(place.is_below(prefix) and real.is_below(_resolved(prefix)) for prefix in self._prefixes.values()):
            allowed = f"it may be below {', '.join(self._prefixes)}" if self._prefixes else "send the file itself"
            raise _fault("uri_not_allowed", f"Jobs may not read {uri}; {allowed}.")
        return real


def _resolved(place: Place) -> Place:
    if place.bucket is not None:
        return place
    return Place(None, str(Path("/", place.path).resolve()).strip("/"))


def _fault(code: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, errors=[{"pointer": "/input/uri", "code": code, "message": message}])
