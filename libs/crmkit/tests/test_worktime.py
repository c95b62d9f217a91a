"""Working time: windows, holidays, make-up days and changes of clocks."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from crmkit.worktime import Unreachable, WorkingTime, minutes_of

SHANGHAI = ZoneInfo("Asia/Shanghai")
TWO_WINDOWS = WorkingTime(SHANGHAI, ((510, 720), (810, 1080)), china=True)
NINE_TO_FIVE = WorkingTime(SHANGHAI, ((540, 1020),), china=False)


def at(text: str, zone: ZoneInfo = SHANGHAI) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


@pytest.mark.parametrize(
    ("start", "minutes", "due"),
    [
        ("2025-03-03 11:30", 60, "2025-03-03 14:00"),
        ("2025-03-07 17:45", 480, "2025-03-10 17:45"),
        ("2025-01-25 10:00", 240, "2025-01-26 14:00"),
        ("2025-01-27 17:00", 240, "2025-02-05 11:30"),
        ("2025-09-30 17:30", 60, "2025-10-09 09:00"),
    ],
)
def test_lunch_holidays_and_make_up_days_are_what_the_state_council_says(
    start: str, minutes: int, due: str
) -> None:
    assert TWO_WINDOWS.after(at(start), minutes * 60) == at(due)
    assert TWO_WINDOWS.between(at(start), at(due)) == minutes * 60


def test_time_before_and_after_the_window_does_not_count() -> None:
    assert NINE_TO_FIVE.after(at("2026-03-06 16:30"), 3600) == at("2026-03-09 09:30")
    assert NINE_TO_FIVE.after(at("2026-03-04 07:00"), 7200) == at("2026-03-04 11:00")


def test_a_local_hour_is_another_instant_in_summer() -> None:
    berlin = WorkingTime(ZoneInfo("Europe/Berlin"), ((480, 1020),), china=False)
    assert berlin.after(datetime(2026, 1, 14, 1, tzinfo=UTC), 1) == datetime(2026, 1, 14, 7, 0, 1, tzinfo=UTC)
    assert berlin.after(datetime(2026, 7, 15, 1, tzinfo=UTC), 1) == datetime(2026, 7, 15, 6, 0, 1, tzinfo=UTC)


def test_a_boundary_that_does_not_exist_moves_to_the_next_instant_that_does() -> None:
    # In Santiago midnight of 2023-09-03 was left out; the day is a Sunday, so ask for the boundary itself.
    zone = ZoneInfo("America/Santiago")
    work = WorkingTime(zone, ((0, 60),), china=False)
    instant = work._instant(date(2023, 9, 3), 0)  # pyright: ignore[reportPrivateUsage]
    assert instant == datetime(2023, 9, 3, 4, tzinfo=UTC)
    assert instant.astimezone(zone).hour == 1


def test_a_year_that_is_not_announced_counts_monday_to_friday() -> None:
    assert TWO_WINDOWS.after(at("2031-01-03 17:30"), 3600) == at("2031-01-06 09:00")


def test_what_no_time_can_reach_is_refused() -> None:
    with pytest.raises(Unreachable):
        WorkingTime(SHANGHAI, (), china=True).after(at("2026-03-04 07:00"), 60)


def test_a_time_of_day_is_read_strictly() -> None:
    assert (minutes_of("00:00"), minutes_of("09:30"), minutes_of("24:00")) == (0, 570, 1440)
    for wrong in ("", "9:30", "09:60", "24:01", "ab:cd", "0930"):
        with pytest.raises(ValueError):
            minutes_of(wrong)
