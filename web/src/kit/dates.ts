import { dateFormat } from "./formatters";

/** `google.type.Date` in JSON: a day without a zone. */
export interface DateJson {
  year?: number;
  month?: number;
  day?: number;
}

export function toIso(date: DateJson | string | null | undefined): string {
  if (!date) return "";
  if (typeof date === "string") return date;
  if (!date.year || !date.month || !date.day) return "";
  return `${String(date.year).padStart(4, "0")}-${String(date.month).padStart(2, "0")}-${String(date.day).padStart(2, "0")}`;
}

export function fromIso(iso: string): DateJson | null {
  const match = /^(\d{4})-(\d{2})-(\d{2})/.exec(iso);
  return match ? { year: Number(match[1]), month: Number(match[2]), day: Number(match[3]) } : null;
}

/** The same day for every viewer: formatted in UTC from a UTC midnight. */
export function formatDate(date: DateJson | string | null | undefined, locale: string): string {
  const iso = toIso(date);
  if (!iso) return "";
  return dateFormat(dated(locale), {
    dateStyle: locale.startsWith("zh") ? "long" : "medium",
    timeZone: "UTC",
  }).format(new Date(`${iso.slice(0, 10)}T00:00:00Z`));
}

/** English without a country would put the month first. */
export const dated = (locale: string) => (locale === "en" ? "en-GB" : locale);

/** An instant in the viewer's own zone. */
export function formatInstant(instant: string | null | undefined, locale: string): string {
  if (!instant) return "";
  return dateFormat(dated(locale), {
    dateStyle: locale.startsWith("zh") ? "short" : "medium",
    timeStyle: "short",
  }).format(new Date(instant));
}

const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["week", 604_800],
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

/** "3 hours ago", for feeds; the exact time goes beside it. */
export function formatRelative(instant: string | null | undefined, locale: string, now = Date.now()): string {
  if (!instant) return "";
  const seconds = (new Date(instant).getTime() - now) / 1000;
  const format = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
  for (const [unit, size] of STEPS)
    if (Math.abs(seconds) >= size) return format.format(Math.round(seconds / size), unit);
  return format.format(0, "minute");
}
