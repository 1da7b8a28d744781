"""When a cron expression is due in a time zone. Times are strictly increasing and the same from wherever one looks."""

import difflib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from shared.errors import InvalidRequest

FIELDS: Final = ("minute", "hour", "day-of-month", "month", "day-of-week")
ALLOWED: Final = ("0-59", "0-23", "1-31 (a day that the month has), L or LW", "1-12 or JAN-DEC", "0-7 or SUN-SAT")
LONGEST: Final = 200
# How far back the newest of several missed times is looked for at first.
SPAN: Final = timedelta(hours=1)


class Cron:
    """A cron expression of five fields in a time zone, as Debian's cron reads it.

    Where clocks are put forward or back, an expression with fixed hours and minutes runs all the same: a time that does
    not exist is moved to the moment when the clock jumps, one that exists twice means the first. One whose minutes or
    hours begin with a star goes by elapsed time (Debian's cron(8), "Notes").
    """

    def __init__(self, expression: str, time_zone: str) -> None:
        """Check both.

        Raises:
            InvalidRequest: bad_cron, unknown_time_zone.
        """
        self.expression = expression
        self.time_zone = time_zone
        check_time_zone(time_zone)
        self._zone = ZoneInfo(time_zone)
        parts = expression[: LONGEST + 1].split()
        if len(expression) > LONGEST or len(parts) != len(FIELDS):
            message = f"cron has the five fields {', '.join(FIELDS)}, such as 0 3 * * *; this has {len(parts)}."
            if len(expression) > LONGEST:
                message = f"cron may have at most {LONGEST} characters."
            raise _fault("/cron", "bad_cron", message)
        try:
            CronSim(expression, datetime.now(UTC))
        except CronSimError as error:
            raise _fault("/cron", "bad_cron", _bad_field(parts, str(error))) from error
        if self.next_after(datetime.now(UTC)) is None:
            message = f"There is no day on which {expression} is due; check its day-of-month and day-of-week."
            raise _fault("/cron", "bad_cron", message)

    def times(self, after: datetime) -> Iterator[datetime]:
        """Every time that it is due later than `after`, as UTC; it ends if none comes in the 50 years from there."""
        last = after.astimezone(UTC)
        for local in CronSim(self.expression, last.astimezone(self._zone)):
            moment = local.astimezone(UTC)
            # Two times that do not exist become the same moment; one that exists twice may be over already.
            if moment > last:
                last = moment
                yield moment

    def next_after(self, moment: datetime) -> datetime | None:
        """The first time that it is due later than this."""
        return next(self.times(moment), None)

    def newest(self, due: datetime, now: datetime) -> datetime:
        """The last time up to `now`, of those from `due` on, which is one of them and not later than `now`."""
        span, newest = SPAN, due
        while True:
            # From the end, since there may be many when everything was down for long.
            start = max(due, now - span)
            for moment in self.times(start):
                if moment > now:
                    break
                newest = moment
            if newest > due or start == due:
                return newest
            span *= 2


def check_time_zone(time_zone: str) -> None:
    """See that there is such a time zone.

    Raises:
        InvalidRequest: unknown_time_zone, with those that may be meant.
    """
    if time_zone not in _zones():
        raise _fault("/time_zone", "unknown_time_zone", _unknown_zone(time_zone))


@cache
def _zones() -> set[str]:
    """Those that mean the same on every machine."""
    return available_timezones() - {"localtime", "posixrules", "Factory"}


def _unknown_zone(given: str) -> str:
    zones = {zone.lower(): zone for zone in _zones()}
    cities = {zone.rpartition("/")[2]: zone for zone in zones}
    lowered = given[:100].lower()
    close = [cities[lowered]] if lowered in cities else difflib.get_close_matches(lowered, zones)
    close = close or [cities[city] for city in difflib.get_close_matches(lowered, cities)]
    named = [zones[zone] for zone in dict.fromkeys(close)][:3]
    hint = f"did you mean {' or '.join(named)}?" if named else "name one such as UTC or Europe/Berlin."
    return f"There is no time zone {given[:100]!r}; {hint}"


def _bad_field(parts: list[str], reason: str) -> str:
    name = reason.removeprefix("Bad ")
    if name not in FIELDS:
        return f"cron cannot be read: {reason}."
    place = FIELDS.index(name)
    return (
        f"The {name} of cron (field {place + 1}) is {parts[place]!r}; "
        f"it may be *, {ALLOWED[place]}, a list such as 1,2, a range such as 1-2, or a step such as */2."
    )


def _fault(pointer: str, code: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, errors=[{"pointer": pointer, "code": code, "message": message}])
