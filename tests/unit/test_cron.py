"""Cron expressions: what is refused, and when they are due where clocks are put forward and back."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cron import Cron
from shared.errors import InvalidRequest

BERLIN = "Europe/Berlin"
# The clocks of Berlin go forward on 29 March 2026 at 01:00 UTC, and back on 25 October 2026 at 01:00 UTC.
FORWARD = datetime(2026, 3, 28, 12, tzinfo=UTC)
BACK = datetime(2026, 10, 24, 12, tzinfo=UTC)


def shown(times: Iterator[datetime], until: datetime) -> list[str]:
    """Days and times in UTC, up to a moment."""
    return [f"{moment:%d %H:%M}" for moment in takewhile(lambda moment: moment <= until, times)]


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        pytest.param("30 2 * * *", ["29 01:00", "30 00:30"], id="a-time-that-does-not-exist-is-when-the-clock-jumps"),
        pytest.param("0,30 2 * * *", ["29 01:00", "30 00:00", "30 00:30"], id="two-such-times-are-one"),
        pytest.param("30 3 * * *", ["29 01:30", "30 01:30"], id="the-hour-after"),
        pytest.param("30 1 * * *", ["29 00:30", "29 23:30"], id="the-hour-before"),
    ],
)
def test_a_fixed_time_is_due_once_on_the_day_when_clocks_go_forward(expression: str, due: list[str]) -> None:
    assert shown(Cron(expression, BERLIN).times(FORWARD), FORWARD + timedelta(days=1, hours=14)) == due


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        pytest.param("30 2 * * *", ["25 00:30", "26 01:30"], id="a-time-that-exists-twice-is-the-first"),
        pytest.param("30 3 * * *", ["25 02:30", "26 02:30"], id="the-hour-after"),
        pytest.param("30 1 * * *", ["24 23:30", "26 00:30"], id="the-hour-before"),
    ],
)
def test_a_fixed_time_is_due_once_on_the_day_when_clocks_go_back(expression: str, due: list[str]) -> None:
    assert shown(Cron(expression, BERLIN).times(BACK), BACK + timedelta(days=1, hours=15)) == due


@pytest.mark.parametrize("around", [FORWARD, BACK], ids=["forward", "back"])
def test_every_half_hour_goes_by_elapsed_time(around: datetime) -> None:
    end = around + timedelta(days=1)

    times = list(takewhile(lambda moment: moment <= end, Cron("*/30 * * * *", BERLIN).times(around)))

    assert times == [around + timedelta(minutes=30 * step) for step in range(1, 49)]


def test_a_time_that_was_due_is_not_due_again_while_its_hour_is_repeated() -> None:
    repeated = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # 02:10 for the second time

    assert Cron("30 2 * * *", BERLIN).next_after(repeated) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


@given(
    start=st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 20), timezones=st.just(UTC)),  # noqa: DTZ001
    expression=st.sampled_from(
        ["30 2 * * *", "0,30 2,3 * * *", "15 * * * *", "*/20 1-3 * * *", "0 0 * * 1", "5 */2 * * *"]
    ),
)
def test_what_is_due_does_not_depend_on_where_one_begins_to_look(start: datetime, expression: str) -> None:
    cron = Cron(expression, BERLIN)
    whole = cron.times(start - timedelta(days=3))
    end = start + timedelta(days=9)

    later = list(takewhile(lambda moment: moment <= end, cron.times(start)))

    assert later == [moment for moment in takewhile(lambda moment: moment <= end, whole) if moment > start]
    assert later == sorted(set(later))


@given(
    expression=st.sampled_from(["* * * * *", "0 3 * * *", "30 2 * * 0", "0 0 1 1 *"]),
    down=st.timedeltas(timedelta(0), timedelta(days=800)),
)
def test_the_newest_time_is_the_last_that_is_not_in_the_future(expression: str, down: timedelta) -> None:
    cron = Cron(expression, BERLIN)
    due = cron.next_after(datetime(2026, 3, 1, tzinfo=UTC))
    assert due is not None
    now = due + down

    newest = cron.newest(due, now)

    following = cron.next_after(newest)
    assert due <= newest <= now
    assert following is not None
    assert following > now


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        pytest.param("0 25 * * *", ["hour", "'25'", "0-23"], id="hour"),
        pytest.param("60 * * * *", ["minute", "'60'", "0-59"], id="minute"),
        pytest.param("0 0 32 * *", ["day-of-month", "'32'", "1-31"], id="day"),
        pytest.param("0 0 31 2 *", ["day-of-month", "'31'", "that the month has"], id="a-day-that-never-comes"),
        pytest.param("0 0 */31 2 MON#5", ["no day", "day-of-month", "day-of-week"], id="days-that-never-agree"),
        pytest.param("0 0 * 13 *", ["month", "'13'", "1-12"], id="month"),
        pytest.param("0 0 * * 8", ["day-of-week", "'8'", "0-7"], id="weekday"),
        pytest.param("* * * *", ["five fields", "this has 4"], id="four-fields"),
        pytest.param("0 * * * * *", ["five fields", "this has 6"], id="seconds"),
        pytest.param("@daily", ["five fields", "this has 1"], id="a-word"),
        pytest.param("", ["five fields", "this has 0"], id="nothing"),
        pytest.param("0" + ",0" * 200 + " * * * *", ["at most 200 characters"], id="long"),
    ],
)
def test_an_expression_that_cannot_be_is_refused_with_its_field(expression: str, words: list[str]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Cron(expression, "UTC")

    (fault,) = refused.value.errors
    assert (fault["pointer"], fault["code"]) == ("/cron", "bad_cron")
    assert [word for word in words if word not in fault["message"]] == []


@given(st.lists(st.text("0123456789*/-,#LWSUNJA²", min_size=1, max_size=6), min_size=5, max_size=5).map(" ".join))
def test_any_five_fields_are_either_read_or_refused(expression: str) -> None:
    try:
        cron = Cron(expression, "UTC")
    except InvalidRequest:
        return

    due = cron.next_after(FORWARD)

    assert due is None or due > FORWARD


@pytest.mark.parametrize(
    ("time_zone", "hint"),
    [
        pytest.param("europe/berlin", "Europe/Berlin", id="case"),
        pytest.param("Berlin", "Europe/Berlin", id="city"),
        pytest.param("Europe/Berln", "Europe/Berlin", id="misspelt"),
        pytest.param("Nowhere/Atall", "such as", id="unlike-any"),
        pytest.param("../../etc/passwd", "such as", id="a-path"),
        pytest.param("localtime", "There is no", id="another-one-on-each-machine"),
        pytest.param("", "such as", id="nothing"),
    ],
)
def test_an_unknown_time_zone_is_refused_with_what_may_be_meant(time_zone: str, hint: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Cron("0 3 * * *", time_zone)

    (fault,) = refused.value.errors
    assert (fault["pointer"], fault["code"]) == ("/time_zone", "unknown_time_zone")
    assert hint in fault["message"]
