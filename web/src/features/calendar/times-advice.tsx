import { keepPreviousData, useQuery } from "@tanstack/react-query";
import type { AdviceProps } from "@/advice";
import { request } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import type { Json } from "@/api/client";
import { formatInstant, fromIso } from "@/kit/dates";
import { Reference } from "@/kit/field-value";
import { useSession } from "@/kit/queries";
import { useSettled } from "@/kit/settled";
import { instantOf, ownZone, wallTime } from "@/kit/zones";
import { dayAfter } from "./dates";
import { FreeBusy } from "./free-busy";

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
export function TimesAdvice({ values, put }: AdviceProps) {
  const { t } = useText();
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
  return (
    <div className="stack">
      {conflicts.length === 0 ? (
        <p className="advice advice-good" role="status">
          {t("calendar.free")}
        </p>
      ) : (
        <Collision answer={answer.data} onUse={(slot) => put(wallOf(slot, values))} />
      )}
      <Day values={values} />
    </div>
  );
}

function Collision({
  answer,
  onUse,
}: {
  answer: Schema<"workspace.CheckConflictsResponse">;
  onUse: (slot: Schema<"workspace.FreeSlot">) => void;
}) {
  const { t, language } = useText();
  const conflicts = answer.conflicts ?? [];
  const slots = (answer.freeSlots ?? []).slice(0, 3);
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
      {!answer.acceptable && <p>{t("calendar.notAcceptable")}</p>}
      {slots.length > 0 && (
        <div className="row">
          {t("calendar.freeAt")}
          {slots.map((slot) => (
            <button
              key={slot.startTime}
              type="button"
              className="chip"
              aria-label={t("calendar.use", { time: formatInstant(slot.startTime, language) })}
              onClick={() => onUse(slot)}
            >
              {formatInstant(slot.startTime, language)}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}

/** A free time on the wall of the event's zone; one that takes whole days stays so. */
function wallOf(slot: Schema<"workspace.FreeSlot">, values: Json): Json {
  const zone = zoneOf(values);
  const [start, end] = [wallTime(slot.startTime ?? "", zone), wallTime(slot.endTime ?? "", zone)];
  if (values["startDate"]) return { startDate: fromIso(start), endDate: fromIso(dayAfter(end, -1)) };
  return { start, end };
}

const zoneOf = (values: Json) => String(values["timeZone"] || ownZone());

/** Whom and what the event would take, beside what else they have that day. */
function Day({ values }: { values: Json }) {
  const session = useSession();
  const [start, end] = [String(values["start"] ?? ""), String(values["end"] ?? "")];
  const attendees = (values["attendees"] ?? []) as { employee?: string }[];
  const organizer = String(values["owner"] || session.employee);
  const people = [...new Set([organizer, ...attendees.flatMap(({ employee }) => employee || [])])];
  const rooms = ((values["rooms"] ?? []) as string[]).filter(Boolean);
  if (!WALL.test(start) || !WALL.test(end) || end <= start) return null;
  const zone = zoneOf(values);
  return (
    <FreeBusy
      start={instantOf(start, zone)}
      end={instantOf(end, zone)}
      people={people}
      rooms={rooms}
      except={String(values["name"] ?? "")}
    />
  );
}

const WALL = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}/;
