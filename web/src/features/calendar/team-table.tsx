import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useText } from "@/i18n";
import { dated } from "@/kit/dates";
import { Reference } from "@/kit/field-value";
import { PlainTable } from "@/kit/plain-table";
import { quote } from "@/kit/filter";
import { firstPageQuery, recordQuery, useSession } from "@/kit/queries";
import { Loaded } from "@/kit/states";
import { ownZone, wallTime } from "@/kit/zones";
import { dayAfter, type Instance } from "./dates";
import { instancesQuery } from "./instances";
import { dateFormat } from "@/kit/formatters";

interface Props {
  /** The first day and how many. */
  from: string;
  days: number;
  people: string[];
  onOpen: (instance: Instance) => void;
}

const MOST = 50;

/** The people of the team below each other, day by day: who is where, and who has time. */
export function TeamTable({ from, days, people, onOpen }: Props) {
  const { t, language } = useText();
  const session = useSession();
  const shown = Array.from({ length: days }, (_, index) => dayAfter(from, index));
  const self = useQuery(recordQuery(session.employee));
  const department = String(self.data?.["department"] ?? "");
  const besideMe = department ? ` OR department = ${quote(department)}` : "";
  const reports = useQuery({
    ...firstPageQuery("employees", {
      filter: `(superior = me${besideMe}) AND state = "ACTIVE"`,
      orderBy: "displayName",
      pageSize: MOST,
    }),
    enabled: self.data !== undefined,
  });
  const asked = {
    from: midnight(from),
    to: midnight(dayAfter(from, days)),
  };
  const team = useQuery({ ...instancesQuery({ ...asked, team: true }), placeholderData: keepPreviousData });
  const beside = useQuery({
    ...instancesQuery({ ...asked, people }),
    enabled: people.length > 0,
    placeholderData: keepPreviousData,
  });
  return (
    <section className="card card-body">
      <Loaded query={team} lines={8}>
        {(found) => {
          const all = [...found, ...(people.length > 0 ? (beside.data ?? []) : [])];
          const rows = [
            ...new Set([
              session.employee,
              ...(reports.data?.records ?? []).map(({ name }) => name),
              ...people,
              ...all.flatMap(({ employee }) => (employee ? [employee] : [])),
            ]),
          ];
          return (
            <PlainTable
              caption={t("calendar.teamTable")}
              className="team-table"
              rows={rows}
              keyOf={(person) => person}
              columns={[
                {
                  key: "person",
                  title: t("calendar.person"),
                  row: true,
                  cell: (person) => <Reference name={person} />,
                },
                ...shown.map((day) => ({
                  key: day,
                  title: dateFormat(dated(language), {
                    weekday: "short",
                    month: "numeric",
                    day: "numeric",
                    timeZone: "UTC",
                  }).format(new Date(`${day}T00:00Z`)),
                  cell: (person: string) => (
                    <Day
                      instances={onceEach(all.filter((one) => one.employee === person && falls(one, day)))}
                      onOpen={onOpen}
                    />
                  ),
                })),
              ]}
            />
          );
        }}
      </Loaded>
    </section>
  );
}

function Day({ instances, onOpen }: { instances: Instance[]; onOpen: (instance: Instance) => void }) {
  const { t, language } = useText();
  if (instances.length === 0) return <span className="faint">{t("calendar.allFree")}</span>;
  const time = (instant: string | undefined) =>
    dateFormat(language, { timeStyle: "short" }).format(new Date(instant ?? ""));
  return (
    <ul className="team-day">
      {instances.map((one) => {
        const text = (
          <>
            <span className="faint">
              {one.startDate ? t("calendar.allDay") : `${time(one.startTime)}–${time(one.endTime)}`}
            </span>{" "}
            {one.displayName || t("calendar.busy")}
          </>
        );
        return (
          <li
            key={`${one.event}${one.occurrence}${one.startTime}`}
            data-off={one.state === "CANCELLED" || undefined}
          >
            {one.event ? (
              <button type="button" className="link" onClick={() => onOpen(one)}>
                {text}
              </button>
            ) : (
              text
            )}
          </li>
        );
      })}
    </ul>
  );
}

/** Midnight on one's own wall as an instant. */
export const midnight = (day: string) => new Date(`${day}T00:00`).toISOString();

const falls = (one: Instance, day: string): boolean =>
  one.startDate
    ? one.startDate <= day && day <= (one.endDate || one.startDate)
    : wallTime(one.startTime ?? "", ownZone()).slice(0, 10) <= day &&
      // What ends at midnight has no part in the day that begins then.
      day <= wallTime(new Date(Date.parse(one.endTime ?? "") - 1), ownZone()).slice(0, 10);

const onceEach = (instances: Instance[]) => [
  ...new Map(instances.map((one) => [`${one.event}${one.occurrence}${one.startTime}`, one])).values(),
];
