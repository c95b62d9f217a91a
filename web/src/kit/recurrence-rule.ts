/** The part of RFC 5545 that the editor shows; anything more is kept as text. */

export const WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"] as const;
export type Weekday = (typeof WEEKDAYS)[number];

export interface Rule {
  freq: "" | "DAILY" | "WEEKLY" | "MONTHLY" | "YEARLY";
  interval?: number | undefined;
  days?: Weekday[] | undefined;
  count?: number | undefined;
  /** A day, `2026-03-08`. */
  until?: string | undefined;
}

const FREQ = /^(DAILY|WEEKLY|MONTHLY|YEARLY)$/;

/** Null where the rule says more than the editor can show. */
export function readRule(text: string): Rule | null {
  const rule: Rule = { freq: "" };
  if (text.trim() === "") return rule;
  for (const part of text.replace(/^RRULE:/, "").split(";")) {
    const [key, value = ""] = part.split("=");
    if (key === "FREQ" && FREQ.test(value)) rule.freq = value as Rule["freq"];
    else if (key === "INTERVAL" && /^\d+$/.test(value)) rule.interval = Number(value);
    else if (key === "COUNT" && /^\d+$/.test(value)) rule.count = Number(value);
    else if (key === "UNTIL" && /^\d{8}/.test(value))
      rule.until = `${value.slice(0, 4)}-${value.slice(4, 6)}-${value.slice(6, 8)}`;
    else if (key === "BYDAY" && value.split(",").every((day) => WEEKDAYS.includes(day as Weekday)))
      rule.days = value.split(",") as Weekday[];
    else if (key === "WKST" && value === "MO") continue;
    else return null;
  }
  return rule.freq === "" || (rule.days && rule.freq !== "WEEKLY") ? null : rule;
}

export function writeRule({ freq, interval, days, count, until }: Rule): string {
  if (freq === "") return "";
  const sorted = WEEKDAYS.filter((day) => days?.includes(day));
  return [
    `FREQ=${freq}`,
    interval && interval > 1 ? `INTERVAL=${interval}` : "",
    freq === "WEEKLY" && sorted.length > 0 ? `BYDAY=${sorted.join(",")}` : "",
    until ? `UNTIL=${until.replaceAll("-", "")}T235959` : count ? `COUNT=${count}` : "",
  ]
    .filter(Boolean)
    .join(";");
}
