import { dateFormat } from "./formatters";

/** `2026-03-08T09:30` as the clock on the wall of a zone shows the instant. */
export function wallTime(instant: string | Date, zone: string): string {
  const parts = dateFormat("en-CA", {
    timeZone: zone,
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    hourCycle: "h23",
  }).formatToParts(new Date(instant));
  const of = (type: string) => parts.find((part) => part.type === type)?.value ?? "";
  return `${of("year")}-${of("month")}-${of("day")}T${of("hour")}:${of("minute")}`;
}

export const ownZone = (): string => Intl.DateTimeFormat().resolvedOptions().timeZone;

/** The instant at which the clock on the wall of a zone shows that time. */
export function instantOf(wall: string, zone: string): Date {
  const wanted = Date.parse(`${wall}Z`);
  const off = (instant: number) => Date.parse(`${wallTime(new Date(instant), zone)}Z`) - instant;
  // The offset at the first guess may be that before a change of clocks; the second is right.
  return new Date(wanted - off(wanted - off(wanted)));
}

/** "Asia/Shanghai (GMT+8)". */
export function zoneName(zone: string, locale: string, at = new Date()): string {
  const offset = dateFormat(locale, { timeZone: zone, timeZoneName: "shortOffset" })
    .formatToParts(at)
    .find(({ type }) => type === "timeZoneName")?.value;
  return offset ? `${zone} (${offset})` : zone;
}
