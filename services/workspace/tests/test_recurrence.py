"""Series on the wall clock: the examples of RFC 5545 and the two days a year on which clocks change."""

# ruff: noqa: DTZ001 - what a wall clock shows has no zone.

import random
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from crmkit.errors import InvalidArgument, Problem
from workspace import ical, recurrence
from workspace.recurrence import Change, Series, instant, parse


def series(start: str, rule: str, zone: str = "America/New_York", **more: Any) -> Series:
    begin = parse(start, False, "")
    return Series(begin, begin.replace(hour=begin.hour + 1), zone, rule=rule, **more)


# The examples of RFC 5545, section 3.8.5.3; those without end or finer than a day are refused here.
@pytest.mark.parametrize(
    ("start", "rule", "days"),
    [
        ("1997-09-02", "FREQ=DAILY;COUNT=3", "1997-09-02 1997-09-03 1997-09-04"),
        ("1997-09-02", "FREQ=DAILY;INTERVAL=10;COUNT=5", "1997-09-02 1997-09-12 1997-09-22 1997-10-02 1997-10-12"),
        ("1997-09-02", "FREQ=DAILY;UNTIL=19970904T130000Z", "1997-09-02 1997-09-03 1997-09-04"),
        ("1997-09-02", "FREQ=WEEKLY;COUNT=3", "1997-09-02 1997-09-09 1997-09-16"),
        ("1997-09-01", "FREQ=WEEKLY;INTERVAL=2;UNTIL=19970924T000000Z;WKST=SU;BYDAY=MO,WE,FR",
         "1997-09-01 1997-09-03 1997-09-05 1997-09-15 1997-09-17 1997-09-19"),
        ("1997-08-05", "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO", "1997-08-05 1997-08-10 1997-08-19 1997-08-24"),
        ("1997-08-05", "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU", "1997-08-05 1997-08-17 1997-08-19 1997-08-31"),
        ("1997-09-05", "FREQ=MONTHLY;COUNT=4;BYDAY=1FR", "1997-09-05 1997-10-03 1997-11-07 1997-12-05"),
        ("1997-09-07", "FREQ=MONTHLY;INTERVAL=2;COUNT=4;BYDAY=1SU,-1SU", "1997-09-07 1997-09-28 1997-11-02 1997-11-30"),
        ("1997-09-22", "FREQ=MONTHLY;COUNT=3;BYDAY=-2MO", "1997-09-22 1997-10-20 1997-11-17"),
        ("1997-09-28", "FREQ=MONTHLY;BYMONTHDAY=-3;COUNT=3", "1997-09-28 1997-10-29 1997-11-28"),
        ("1997-09-30", "FREQ=MONTHLY;COUNT=4;BYMONTHDAY=1,-1", "1997-09-30 1997-10-01 1997-10-31 1997-11-01"),
        ("1997-09-10", "FREQ=MONTHLY;INTERVAL=18;COUNT=4;BYMONTHDAY=10,11", "1997-09-10 1997-09-11 1999-03-10 1999-03-11"),
        ("1997-06-10", "FREQ=YEARLY;COUNT=4;BYMONTH=6,7", "1997-06-10 1997-07-10 1998-06-10 1998-07-10"),
        ("1997-01-01", "FREQ=YEARLY;INTERVAL=3;COUNT=4;BYYEARDAY=1,100,200", "1997-01-01 1997-04-10 1997-07-19 2000-01-01"),
        ("1997-05-19", "FREQ=YEARLY;BYDAY=20MO;COUNT=3", "1997-05-19 1998-05-18 1999-05-17"),
        ("1997-05-12", "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO;COUNT=3", "1997-05-12 1998-05-11 1999-05-17"),
        ("1998-02-13", "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13;COUNT=4", "1998-02-13 1998-03-13 1998-11-13 1999-08-13"),
        ("1997-09-13", "FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13;COUNT=3", "1997-09-13 1997-10-11 1997-11-08"),
        ("1997-09-04", "FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", "1997-09-04 1997-10-07 1997-11-06"),
        ("1997-09-29", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2;COUNT=3", "1997-09-29 1997-10-30 1997-11-27"),
        ("2007-01-15", "FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5", "2007-01-15 2007-01-30 2007-02-15 2007-03-15 2007-03-30"),
        ("2026-01-31", "FREQ=MONTHLY;COUNT=3", "2026-01-31 2026-03-31 2026-05-31"),
    ],
)  # fmt: skip
def test_a_rule_gives_the_dates_that_the_standard_names(start: str, rule: str, days: str) -> None:
    found = series(f"{start}T09:00", rule).starts(recurrence.FOREVER)
    assert " ".join(day.date().isoformat() for day in found) == days
    assert {day.hour for day in found} == {9}


# Rules of the corpora that libical and ical.js are tested by: how many dates, and the last one. Starts that do not fit
# their rule are moved to its first date (the standard leaves the others open); endless ones have the end that is
# tested; those finer than a day are refused here.
CORPORA = [
    ("2002-04-02T11:45", "FREQ=WEEKLY;INTERVAL=1;COUNT=6;BYDAY=TU,WE", 6, "2002-04-17"),
    ("2002-04-04T11:45", "FREQ=WEEKLY;INTERVAL=1;COUNT=6;BYDAY=TH", 6, "2002-05-09"),
    ("1999-02-01T17:20", "FREQ=YEARLY;INTERVAL=1;COUNT=10", 10, "2008-02-01"),
    ("2001-12-16T19:25", "FREQ=WEEKLY;COUNT=10;INTERVAL=1;BYDAY=SU,TU", 10, "2002-01-15"),
    ("2001-12-04T15:35", "FREQ=MONTHLY;INTERVAL=1;COUNT=3;BYDAY=1TU", 3, "2002-02-05"),
    ("1997-12-15T09:00", "FREQ=DAILY;UNTIL=19971224T000000Z;INTERVAL=1", 9, "1997-12-23"),
    ("1998-01-01T09:00", "FREQ=YEARLY;UNTIL=20000131T140000Z;BYDAY=SU,MO,TU,WE,TH,FR,SA;BYMONTH=1", 93, "2000-01-31"),
    ("1998-01-01T09:00", "FREQ=DAILY;UNTIL=20000131T140000Z;BYMONTH=1", 93, "2000-01-31"),
    ("2002-01-01T09:00", "FREQ=DAILY;COUNT=50;INTERVAL=1;BYDAY=MO,TU,WE,TH,FR", 50, "2002-03-11"),
    ("2002-01-01T09:00", "FREQ=DAILY;UNTIL=20020120T140000Z;BYDAY=TU,WE,TH", 9, "2002-01-17"),
    ("2002-01-01T09:00", "FREQ=DAILY;UNTIL=20020120T140000Z;BYDAY=MO,TU,WE,TH,FR;WKST=SU", 14, "2002-01-18"),
    ("1997-09-02T09:00", "FREQ=WEEKLY;UNTIL=19971224T000000Z;INTERVAL=1", 17, "1997-12-23"),
    ("1997-09-02T09:00", "FREQ=WEEKLY;INTERVAL=2;COUNT=10", 10, "1998-01-06"),
    ("1997-09-02T09:00", "FREQ=WEEKLY;UNTIL=19971007T000000Z;INTERVAL=1;BYDAY=TU,TH", 10, "1997-10-02"),
    ("1997-09-02T09:00", "FREQ=WEEKLY;COUNT=8;INTERVAL=2;BYDAY=TU,TH", 8, "1997-10-16"),
    ("1997-09-05T09:00", "FREQ=MONTHLY;UNTIL=19971224T000000Z;INTERVAL=1;BYDAY=1FR", 4, "1997-12-05"),
    ("1997-09-02T09:00", "FREQ=MONTHLY;COUNT=10;INTERVAL=1;BYMONTHDAY=2,15", 10, "1998-01-15"),
    ("1997-09-10T09:00", "FREQ=MONTHLY;COUNT=10;INTERVAL=18;BYMONTHDAY=10,11,12,13,14,15", 10, "1999-03-13"),
    ("1997-09-02T09:00", "FREQ=MONTHLY;INTERVAL=2;COUNT=18;BYDAY=TU", 18, "1998-03-31"),
    ("1997-03-10T09:00", "FREQ=YEARLY;COUNT=10;INTERVAL=2;BYMONTH=1,2,3", 10, "2003-03-10"),
    ("1997-01-01T09:00", "FREQ=YEARLY;COUNT=10;INTERVAL=3;BYYEARDAY=1,100,200", 10, "2006-01-01"),
    ("1997-03-13T09:00", "FREQ=YEARLY;INTERVAL=1;COUNT=11;BYDAY=TH;BYMONTH=3", 11, "1999-03-25"),
    ("1997-06-05T09:00", "FREQ=YEARLY;COUNT=39;BYDAY=TH;BYMONTH=6,7,8", 39, "1999-08-26"),
    ("1996-11-05T09:00", "FREQ=YEARLY;INTERVAL=4;COUNT=3;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8;BYMONTH=11", 3, "2004-11-02"),
    ("1997-09-02T09:00", "FREQ=DAILY;COUNT=20;BYMINUTE=0,20,40;BYHOUR=9,10,11,12,13,14,15,16", 20, "1997-09-02"),
    ("2012-04-10T09:00", "FREQ=WEEKLY;UNTIL=20120424T065959Z;BYDAY=TU", 2, "2012-04-17"),
    ("2013-01-01T09:00", "FREQ=YEARLY;UNTIL=20150131T140000Z;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA", 93, "2015-01-31"),
    ("2012-11-15T00:00", "FREQ=WEEKLY;UNTIL=20121224T000000Z", 6, "2012-12-20"),
    ("2012-01-15T09:00", "FREQ=WEEKLY;INTERVAL=2;WKST=SU;COUNT=3", 3, "2012-02-12"),
    ("2012-01-03T09:00", "FREQ=WEEKLY;COUNT=4;WKST=SU;BYDAY=TU,TH", 4, "2012-01-12"),
    ("1997-09-01T09:00", "FREQ=WEEKLY;INTERVAL=2;UNTIL=19971224T140000Z;WKST=SU;BYDAY=MO,WE,FR", 26, "1997-12-24"),
    ("2012-02-03T00:00", "FREQ=MONTHLY;COUNT=10;BYDAY=1FR", 10, "2012-11-02"),
    ("2012-05-31T09:00", "FREQ=MONTHLY;BYDAY=TH;BYMONTHDAY=31;COUNT=3", 3, "2013-10-31"),
    ("2012-11-04T09:00", "FREQ=MONTHLY;INTERVAL=2;COUNT=4;BYDAY=1SU,-1SU", 4, "2013-01-27"),
    ("2012-01-29T09:00", "FREQ=MONTHLY;BYMONTHDAY=-3;COUNT=3", 3, "2012-03-29"),
    ("2012-02-01T09:00", "FREQ=MONTHLY;COUNT=12;INTERVAL=3", 12, "2014-11-01"),
]  # fmt: skip


@pytest.mark.capability("w.calendar")
@pytest.mark.parametrize(("start", "rule", "count", "last"), CORPORA)
def test_the_rules_that_other_calendars_are_tested_by_give_their_dates(
    start: str, rule: str, count: int, last: str
) -> None:
    found = series(start, rule).starts(recurrence.FOREVER)
    assert (len(found), found[-1].date().isoformat()) == (count, last)


def test_extra_left_out_and_changed_dates_count() -> None:
    weekly = series(
        "2026-03-02T09:00", "FREQ=WEEKLY;COUNT=4", extra=(datetime(2026, 3, 4, 15),), left_out=(datetime(2026, 3, 9, 9),)
    )  # fmt: skip
    changes = {
        "2026-03-16T09:00": Change(start="2026-03-17T10:00", end="2026-03-17T12:00"),
        "2026-03-23T09:00": Change(cancelled=True),
    }
    found = weekly.occurrences(recurrence.FOREVER, changes)
    assert [(one.key, one.start.isoformat(timespec="minutes"), one.cancelled) for one in found] == [
        ("2026-03-02T09:00", "2026-03-02T09:00", False),
        ("2026-03-04T15:00", "2026-03-04T15:00", False),
        ("2026-03-16T09:00", "2026-03-17T10:00", False),
        ("2026-03-23T09:00", "2026-03-23T09:00", True),
    ]
    with pytest.raises(Problem) as refused:
        weekly.occurrences(recurrence.FOREVER, {"2026-03-09T09:00": Change(cancelled=True)})
    assert refused.value.reason == "OCCURRENCE_UNKNOWN"


def test_a_series_keeps_its_wall_clock_over_the_change_of_clocks() -> None:
    found = series("2026-03-06T09:00", "FREQ=DAILY;COUNT=4").occurrences(recurrence.FOREVER, {})
    assert [one.span()[0].astimezone(UTC).hour for one in found] == [14, 14, 13, 13]


def test_in_the_spring_gap_the_time_moves_forward_by_the_gap() -> None:
    gap = series("2026-03-08T02:30", "")
    begin, end = gap.occurrences(recurrence.FOREVER, {})[0].span()
    assert (begin, end) == (datetime(2026, 3, 8, 7, 30, tzinfo=UTC), datetime(2026, 3, 8, 8, 30, tzinfo=UTC))
    assert instant(datetime(2026, 3, 8, 2, 30), "America/New_York") == instant(
        datetime(2026, 3, 8, 3, 30), "America/New_York"
    )
    short = Series(datetime(2026, 3, 8, 2, 30), datetime(2026, 3, 8, 3, 0), "America/New_York")
    begin, end = short.occurrences(recurrence.FOREVER, {})[0].span()
    assert (end - begin).total_seconds() == 1800


def test_of_the_double_hour_in_autumn_the_first_counts() -> None:
    assert instant(datetime(2026, 11, 1, 1, 30), "America/New_York") == datetime(
        2026, 11, 1, 5, 30, tzinfo=UTC
    )


def test_whole_days_begin_at_midnight_of_whoever_is_asked() -> None:
    day = Series(datetime(2026, 10, 1), datetime(2026, 10, 2), "Asia/Shanghai", whole_days=True)
    (one,) = day.occurrences(recurrence.FOREVER, {})
    assert one.span()[0] == datetime(2026, 9, 30, 16, tzinfo=UTC)
    assert one.span("America/New_York") == (
        datetime(2026, 10, 1, 4, tzinfo=UTC),
        datetime(2026, 10, 3, 4, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("FREQ=DAILY", "RECURRENCE_TOO_LONG"),
        ("FREQ=YEARLY;UNTIL=20370101T000000Z", "RECURRENCE_TOO_LONG"),
        ("FREQ=YEARLY;COUNT=12", "RECURRENCE_TOO_LONG"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30;COUNT=3", "RECURRENCE_TOO_LONG"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;COUNT=3", "RECURRENCE_TOO_LONG"),
        ("FREQ=SECONDLY;COUNT=5", "RECURRENCE_INVALID"),
        ("FREQ=HOURLY;COUNT=5", "RECURRENCE_INVALID"),
        ("FREQ=DAILY;COUNT=5;UNTIL=20261231T000000Z", "RECURRENCE_INVALID"),
        ("FREQ=DAILY;COUNT=99999", "RECURRENCE_INVALID"),
        ("FREQ=DAILY;COUNT=-1", "RECURRENCE_INVALID"),
        ("FREQ=DAILY;INTERVAL=0;COUNT=2", "RECURRENCE_INVALID"),
        ("FREQ=DAILY;BYSECOND=1,2,3;COUNT=2", "RECURRENCE_INVALID"),
        ("FREQ=YEARLY;BYHOUR=1,2,3,4,5,6,7;BYMINUTE=1,2,3,4,5;COUNT=2", "RECURRENCE_INVALID"),
        ("FREQ=WEEKLY;BYDAY=XX;COUNT=2", "RECURRENCE_INVALID"),
        ("FREQ=MONTHLY;BYDAY=99MO;COUNT=2", "RECURRENCE_INVALID"),
        ("FREQ=MONTHLY;BYMONTHDAY=abc;COUNT=2", "RECURRENCE_INVALID"),
        ("FREQ=DAILY;FREQ=WEEKLY;COUNT=2", "RECURRENCE_INVALID"),
        ("FREQ=WEEKLY;UNTIL=tomorrow", "RECURRENCE_INVALID"),
        ("nonsense", "RECURRENCE_INVALID"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_at_once(rule: str, reason: str) -> None:
    begun = time.monotonic()
    with pytest.raises(InvalidArgument) as refused:
        series("2026-01-05T09:00", rule).starts(recurrence.FOREVER)
    assert refused.value.reason == reason
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    "zone", ["../../etc/passwd", "/etc/localtime", "localtime", "Mars/Phobos", "", "UTC\x00", "a" * 500]
)
def test_what_is_no_zone_is_never_opened(zone: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        recurrence.check_zone(zone)
    assert refused.value.reason == "TIME_ZONE_UNKNOWN"


# Lines that a file may say of an event, each broken, doubled, of another type or too large.
SAID = (
    """
UID:u1|UID:a~UID:b|SEQUENCE:abc|SEQUENCE:99999999999999999999|SEQUENCE:-5|SEQUENCE:1~SEQUENCE:2|DTSTART:20271101T090000Z
DTSTART:20271101T090000~DTSTART:20271102T090000|DTSTART:garbage|DTSTART;VALUE=DATE:20271301|DTSTART:00010101T000000Z
DTSTART;TZID=America/New_York:99991231T235959|DTSTART;TZID=Asia/Shanghai:00010101T000000|DTSTART;VALUE=TIME:101010
DTSTART;VALUE=PERIOD:20271101T090000Z/PT1H|DTSTART;VALUE=TEXT:hello|DTSTART;TZID=:20271101T090000|DTEND:20271101T100000Z
DTEND:00010101T000000|DTEND;VALUE=DATE:20271102|DTEND:junk|DURATION:P9999999D|DURATION:-PT5M|DURATION:junk
DURATION:PT1H~DURATION:PT2H|RRULE:FREQ=DAILY;COUNT=5~RRULE:FREQ=WEEKLY;COUNT=2|RRULE:junk|RRULE:|EXDATE:junk
EXDATE:20271101T090000~EXDATE;VALUE=DATE:20271102|EXDATE;TZID=Evil:20271101T090000|RDATE;VALUE=PERIOD:20271101T090000Z/PT1H
RECURRENCE-ID:junk|RECURRENCE-ID:20271101T090000|RECURRENCE-ID;VALUE=DATE:20271101|SUMMARY:a~SUMMARY:b|STATUS:A~STATUS:B
CLASS:PRIVATE~CLASS:X|ATTENDEE:~ATTENDEE;PARTSTAT=DECLINED,ACCEPTED:mailto:z|ATTENDEE;PARTSTAT=ACCEPTED:mailto:x@y.com
COMMENT:a~COMMENT:b|BEGIN:VALARM~END:VALARM|BEGIN:VEVENT~END:VEVENT
""".replace("\n", "|")
    .strip("|")
    .split("|")
)


def test_whatever_a_calendar_says_is_read_or_refused_by_name() -> None:
    chance = random.Random(5545)
    for number in range(2000):
        lines = chance.sample(SAID, 4) + ([SAID[6]] if number % 2 else [])
        event = "BEGIN:VEVENT\n" + "\n".join(lines).replace("~", "\n") + "\nEND:VEVENT\n"
        content = f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\nMETHOD:REPLY\n{event}END:VCALENDAR\n"
        with suppress(Problem):
            ical.replies(content)
        components = ical.read(content).walk("VEVENT")
        for read in (ical.sequence_of, ical.values_of):
            with suppress(Problem):
                read(components)
