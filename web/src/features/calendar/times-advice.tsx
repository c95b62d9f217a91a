import { keepPreviousData, useQuery } from "@tanstack/react-query";
import type { AdviceProps } from "@/advice";
import { request } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { formatInstant } from "@/kit/dates";
import { Reference } from "@/kit/field-value";
import { useSettled } from "@/kit/settled";

const ASKED = [
  "name",
  "displayName",
  "start",
  "end",
  "timeZone",
  "startDate",
  "endDate",
  "recurrence",
  "attendees",
  "rooms",
  "availability",
  "kind",
];
const SHOWN = 5;

/** With what the event would collide, and when all are free, before it is saved. */
export function TimesAdvice({ values }: AdviceProps) {
  const { t, language } = useText();
  const event = JSON.stringify(
    Object.fromEntries(ASKED.flatMap((name) => (values[name] ? [[name, values[name]]] : []))),
  );
  const settled = useSettled(event);
  const ready = Boolean((values["start"] && values["end"]) || values["startDate"]);
  const answer = useQuery({
    queryKey: ["calendar-conflicts", settled],
    queryFn: async () => {
      const response = await request("/v1/calendarEvents:checkConflicts", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ calendarEvent: JSON.parse(settled) as unknown }),
      });
      return (await response.json()) as Schema<"workspace.CheckConflictsResponse">;
    },
    enabled: ready,
    // What is half typed is no event yet: the form itself says what is wrong with it.
    retry: false,
    placeholderData: keepPreviousData,
  });
  const conflicts = answer.data?.conflicts ?? [];
  if (!ready || !answer.data) return null;
  if (conflicts.length === 0)
    return (
      <p className="advice advice-good" role="status">
        {t("calendar.free")}
      </p>
    );
  return (
    <div className="advice advice-warn" role="status">
      <strong>{t("calendar.collides", { count: conflicts.length })}</strong>
      <ul>
        {conflicts.slice(0, SHOWN).map((conflict) => (
          <li key={`${conflict.employee}${conflict.room}${conflict.startTime}`}>
            {conflict.employee ? <Reference name={conflict.employee} link={false} /> : conflict.room} ·{" "}
            {conflict.displayName || t("calendar.busy")} · {formatInstant(conflict.startTime, language)}
          </li>
        ))}
      </ul>
      {(answer.data.freeSlots ?? []).length > 0 && (
        <p>
          {t("calendar.freeAt")}{" "}
          {(answer.data.freeSlots ?? [])
            .slice(0, 3)
            .map((slot) => formatInstant(slot.startTime, language))
            .join("、")}
        </p>
      )}
    </div>
  );
}
