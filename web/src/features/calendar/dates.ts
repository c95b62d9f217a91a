import { act, get, update, type Json, type RecordJson } from "@/api/client";
import { ApiError } from "@/api/errors";
import type { Schema } from "@/api/schema";
import { toIso, type DateJson } from "@/kit/dates";

export type Instance = Schema<"workspace.CalendarInstance">;
export type Event = Schema<"workspace.CalendarEvent"> & RecordJson;

/** Which dates of a series are meant, as the server names them. */
export const RANGES = ["ONE", "FOLLOWING", "EVERY"] as const;
export type Range = (typeof RANGES)[number];

/** A time on the wall, `2026-03-08T09:30`, or a day: start and end, the last day included. */
export interface Span {
  start: string;
  end: string;
}

/** One date of an event: `occurrence` as its series has it, empty where it is no series. */
export interface OneDate extends Span {
  event: string;
  occurrence: string;
}

export const spanOf = (event: Event): Span =>
  event.startDate
    ? {
        start: toIso(event.startDate as DateJson),
        end: toIso((event.endDate ?? event.startDate) as DateJson),
      }
    : { start: event.start ?? "", end: event.end ?? "" };

/** Where the dates that are meant begin: the event itself, or a new series split off before the date. */
async function from(event: Event, occurrence: string, range: Range): Promise<Event> {
  if (range !== "FOLLOWING" || occurrence === spanOf(event).start) return event;
  return (await act(event.name, "split", { occurrence }, event.etag)) as Event;
}

/** Moves one date, it and those behind it, or all by as much as the one was moved. */
export async function moveDates(
  date: OneDate,
  to: Span,
  range: Range,
  acceptConflicts: boolean,
): Promise<void> {
  const event = (await get(date.event)) as Event;
  if (range === "ONE" || !date.occurrence) {
    await act(
      event.name,
      "move",
      { ...to, ...(date.occurrence ? { occurrence: date.occurrence } : {}), acceptConflicts },
      event.etag,
    );
    return;
  }
  const moved = await from(event, date.occurrence, range);
  const start = shifted(spanOf(moved).start, distance(date.start, to.start));
  const end = shifted(start, distance(to.start, to.end));
  await act(moved.name, "move", { start, end, acceptConflicts }, moved.etag);
}

/** What a person may change of one date, or of it and those behind it. */
export interface DateChange extends Span {
  displayName: string;
  location: string;
  recurrence: string;
}

export async function changeDates(
  event: Event,
  occurrence: string,
  change: DateChange,
  range: Range,
  acceptConflicts: boolean,
): Promise<void> {
  const { recurrence, ...own } = change;
  if (range === "ONE") {
    const others = (event.overrides ?? []).filter((one) => one.occurrence !== occurrence);
    await update(event.name, { overrides: [...others, { occurrence, ...own }], acceptConflicts }, event.etag);
    return;
  }
  const changed = await from(event, occurrence, range);
  const times: Json = event.startDate
    ? { startDate: dayJson(own.start), endDate: dayJson(own.end) }
    : { start: own.start, end: own.end };
  await update(
    changed.name,
    { displayName: own.displayName, location: own.location, ...times, recurrence, acceptConflicts },
    changed.etag,
  );
}

/** True where it can be saved all the same, once the person says so. */
export const isClash = (error: unknown): boolean =>
  error instanceof ApiError && error.reason === "SCHEDULE_CONFLICT";

const DAY_MS = 86_400_000;
const asUtc = (wall: string) => Date.parse(wall.includes("T") ? `${wall}Z` : `${wall}T00:00Z`);
const distance = (start: string, end: string) => asUtc(end) - asUtc(start);

/** A time on the wall later or earlier by so much, written as it was. */
export function shifted(wall: string, by: number): string {
  return new Date(asUtc(wall) + by).toISOString().slice(0, wall.includes("T") ? 16 : 10);
}

/** The day after a day, and with -1 the one before. */
export const dayAfter = (day: string, days = 1): string => shifted(day.slice(0, 10), days * DAY_MS);

function dayJson(day: string): DateJson {
  const [year, month, date] = day.split("-").map(Number);
  return { year: year ?? 0, month: month ?? 0, day: date ?? 0 };
}
