import { useEffect, useState } from "react";
import { useText } from "@/i18n";
import { formatInstant } from "./dates";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const SOON_DAYS = 3;
const NEAR_DAYS = 7;

/** How long until an instant, the nearer the louder; the instant itself stands behind it. */
export function Countdown({ until }: { until: string }) {
  const now = useNow();
  const { t, language } = useText();
  const left = new Date(until).getTime() - now;
  const days = Math.floor(left / DAY_MS);
  const tone = left < SOON_DAYS * DAY_MS ? "bad" : left < NEAR_DAYS * DAY_MS ? "warn" : "calm";
  const text =
    left <= 0
      ? t("countdown.over")
      : days >= 1
        ? t("countdown.days", { count: days })
        : t("countdown.hours", { count: Math.max(1, Math.ceil(left / HOUR_MS)) });
  return (
    <time dateTime={until} className={`tag tag-${tone}`} title={formatInstant(until, language)}>
      {text}
    </time>
  );
}

const MINUTE_MS = 60_000;

/** The time of day, new every minute. */
function useNow(): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), MINUTE_MS);
    return () => clearInterval(timer);
  }, []);
  return now;
}
