import { keepPreviousData, useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { useText } from "@/i18n";
import { Reference } from "@/kit/field-value";
import { useReferences } from "@/kit/queries";
import { ownZone, wallTime, zoneName } from "@/kit/zones";
import type { Instance } from "./dates";
import { instancesQuery } from "./instances";
import { midnight } from "./team-table";
import { dateFormat } from "@/kit/formatters";

interface Props {
  start: Date;
  end: Date;
  people: string[];
  rooms: string[];
  /** The event that is being changed: its own time is no clash. */
  except: string;
}

const [OPENS, CLOSES] = [8, 20];

/** The day of the event, a line for each who is asked and each room: when they are taken, and where the event would lie. */
export function FreeBusy({ start, end, people, rooms, except }: Props) {
  const { t, language } = useText();
  const day = wallTime(start, ownZone()).slice(0, 10);
  const begin = new Date(`${day}T00:00`);
  const found = useQuery({
    ...instancesQuery({
      from: midnight(day),
      to: new Date(begin.getTime() + 86_400_000).toISOString(),
      people,
      rooms,
    }),
    placeholderData: keepPreviousData,
    retry: false,
  });
  const names = useReferences(people, language);
  const hour = (instant: Date | string) =>
    Math.min(24, Math.max(0, (new Date(instant).getTime() - begin.getTime()) / 3_600_000));
  const first = Math.min(OPENS, Math.floor(hour(start)));
  const last = Math.max(CLOSES, Math.ceil(hour(end)));
  const place = (from: Date | string, to: Date | string) => {
    const [left, right] = [Math.max(first, hour(from)), Math.min(last, hour(to))];
    return {
      left: `${((left - first) / (last - first)) * 100}%`,
      width: `${(Math.max(0, right - left) / (last - first)) * 100}%`,
    };
  };
  const clock = (instant: Date | string) =>
    dateFormat(language, { timeStyle: "short" }).format(new Date(instant));
  const taken = (found.data ?? []).filter(
    (one) => one.busy && one.state !== "CANCELLED" && (!except || one.event !== except),
  );
  const spans = (mine: Instance[]) =>
    mine
      .map(
        (one) =>
          `${clock(one.startTime ?? "")}–${clock(one.endTime ?? "")} ${one.displayName || t("calendar.busy")}`,
      )
      .join("；") || t("calendar.allFree");
  const hours = Array.from({ length: Math.floor((last - first) / 2) + 1 }, (_, index) => first + index * 2);
  const line = (key: string, title: string, mine: Instance[], shown: ReactNode) => (
    <li key={key}>
      <span className="busy-who">{shown}</span>
      <span className="busy-line" role="img" aria-label={`${title}：${spans(mine)}`}>
        {mine.map((one) => (
          <span
            key={`${one.startTime}${one.displayName}`}
            className="busy-taken"
            style={place(one.startTime ?? "", one.endTime ?? "")}
          />
        ))}
        <span className="busy-slot" style={place(start, end)} />
      </span>
    </li>
  );
  return (
    <section className="busy" aria-label={t("calendar.freeBusy")}>
      <p className="faint">
        {t("calendar.freeBusy")} · {zoneName(ownZone(), language, start)}
      </p>
      <ul>
        <li aria-hidden="true">
          <span className="busy-who" />
          <span className="busy-line busy-hours">
            {hours.map((one) => (
              <span key={one} style={{ left: `${((one - first) / (last - first)) * 100}%` }}>
                {one}
              </span>
            ))}
          </span>
        </li>
        {people.map((person, index) =>
          line(
            person,
            names[index] ?? "",
            taken.filter(({ employee }) => employee === person),
            <Reference name={person} link={false} />,
          ),
        )}
        {rooms.map((room) =>
          line(
            room,
            room,
            taken.filter((one) => one.room === room),
            room,
          ),
        )}
      </ul>
    </section>
  );
}
