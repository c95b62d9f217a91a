import { CheckOutlined, PlusOutlined } from "@ant-design/icons";
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { act, request, type RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { send } from "@/kit/commands";
import { dated, formatDate, formatInstant, toIso, type DateJson } from "@/kit/dates";
import { Page } from "@/kit/page";
import { firstPageQuery, useCatalogue, useSession } from "@/kit/queries";
import { Empty } from "@/kit/states";
import { Tile } from "@/kit/tile";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import { dateFormat } from "@/kit/formatters";

interface Day {
  today?: string;
  overdue?: RecordJson[];
  dueToday?: RecordJson[];
  coming?: RecordJson[];
}

interface PlanItem {
  text?: string;
  planned?: number;
  actual?: number;
  done?: boolean;
}

interface Tool {
  key: string;
  label?: { zh?: string; en?: string };
  externalCode?: string;
  retired?: boolean;
}

const DAY_KEY = ["list", "tasks", "my-day"];

/** What one has to do today: what is late, today's tasks and dates, the plan beside what was done. */
export function MyDayPage() {
  const { t, language } = useText();
  const session = useSession();
  const catalogue = useCatalogue();
  const today = dateFormat(dated(language), { dateStyle: "full" }).format(new Date());
  const has = (collection: string) => may(session, catalogue.find(collection)?.permissions.read);
  return (
    <Page
      title={t("page.myDay")}
      note={<p className="faint">{today}</p>}
      actions={
        may(session, catalogue.find("tasks")?.permissions.create) && (
          <button
            type="button"
            className="button button-primary"
            onClick={() => send({ kind: "create", collection: "tasks" })}
          >
            <PlusOutlined aria-hidden="true" /> {t("myDay.newTask")}
          </button>
        )
      }
    >
      <div className="tiles">
        {has("tasks") && <Tasks />}
        {has("calendarEvents") && <Dates />}
        {has("workPlans") && <Plan />}
        {has("workSummaries") && <Summaries />}
        {has("dictionaries") && <Tools />}
      </div>
    </Page>
  );
}

function Tasks() {
  const { t } = useText();
  const found = useQuery({
    queryKey: DAY_KEY,
    queryFn: async () => (await (await request("/v1/tasks:myDay")).json()) as Day,
  });
  return (
    <>
      {(["overdue", "dueToday", "coming"] as const).map((part) => (
        <Tile
          key={part}
          title={t(`myDay.${part}`)}
          all="/tasks"
          count={<span className="tag">{found.data?.[part]?.length ?? 0}</span>}
          query={found}
        >
          {(day) =>
            (day[part] ?? []).length === 0 ? (
              <Empty title={t(`myDay.none.${part}`)} />
            ) : (
              <ul className="tile-rows">
                {(day[part] ?? []).map((task) => (
                  <TaskRow key={task.name} task={task} />
                ))}
              </ul>
            )
          }
        </Tile>
      ))}
    </>
  );
}

function TaskRow({ task }: { task: RecordJson }) {
  const { t, language } = useText();
  const title = String(task["displayName"] ?? "");
  const due = task["dueTime"]
    ? formatInstant(String(task["dueTime"]), language)
    : formatDate(task["dueDate"] as DateJson | undefined, language);
  const complete = async () => {
    try {
      await act(task.name, "complete", {}, task.etag);
      tell(t("myDay.completed", { title }), "good");
    } catch (error) {
      tell(messageOf(error), "bad");
    }
  };
  return (
    <li className="tile-row">
      <button
        type="button"
        className="button"
        aria-label={t("myDay.complete", { title })}
        onClick={() => void complete()}
      >
        <CheckOutlined aria-hidden="true" />
      </button>
      <Link to={`/${task.name}`} className="grow">
        <span className="cut-lines">{title}</span>
        <span className="faint">{due}</span>
      </Link>
    </li>
  );
}

function Dates() {
  const { t, language } = useText();
  const begin = new Date();
  begin.setHours(0, 0, 0, 0);
  const end = new Date(begin);
  end.setDate(end.getDate() + 1);
  const query = new URLSearchParams({ fromTime: begin.toISOString(), toTime: end.toISOString() });
  const found = useQuery({
    queryKey: ["list", "calendarEvents", "my-day", query.toString()],
    queryFn: async () =>
      (
        (await (await request(`/v1/calendarEvents:query?${query}`)).json()) as {
          instances?: Schema<"workspace.CalendarInstance">[];
        }
      ).instances ?? [],
  });
  const time = (instant: string | undefined) =>
    instant ? dateFormat(dated(language), { timeStyle: "short" }).format(new Date(instant)) : "";
  return (
    <Tile title={t("myDay.dates")} all="/calendar" query={found}>
      {(instances) =>
        instances.length === 0 ? (
          <Empty title={t("myDay.none.dates")} />
        ) : (
          <ul className="tile-rows">
            {instances.map((one) => (
              <li key={`${one.event} ${one.occurrence}`}>
                <Link to={`/${one.event}`} className="tile-row">
                  <span className="grow">
                    <span className="cut-lines">{one.displayName || t("calendar.busy")}</span>
                    <span className="faint">{one.location}</span>
                  </span>
                  <span className="tile-row-end">
                    {one.startDate ? t("myDay.wholeDay") : `${time(one.startTime)}–${time(one.endTime)}`}
                  </span>
                </Link>
              </li>
            ))}
          </ul>
        )
      }
    </Tile>
  );
}

/** The plans that today lies in, each item beside what was really done. */
function Plan() {
  const { t } = useText();
  const session = useSession();
  const found = useQuery(
    firstPageQuery("workPlans", {
      filter: "owner = me AND startDate <= today AND endDate >= today",
      orderBy: "startDate desc",
      pageSize: 5,
    }),
  );
  const mayCreate = may(session, useCatalogue().find("workPlans")?.permissions.create);
  return (
    <Tile title={t("myDay.plan")} all="/workPlans" query={found}>
      {({ records }) =>
        records.length === 0 ? (
          <Empty title={t("myDay.none.plan")}>
            {mayCreate && (
              <button
                type="button"
                className="button"
                onClick={() => send({ kind: "create", collection: "workPlans" })}
              >
                {t("myDay.newPlan")}
              </button>
            )}
          </Empty>
        ) : (
          records.map((plan) => (
            <section key={plan.name}>
              <h3>
                <Link to={`/${plan.name}`}>{String(plan["displayName"] ?? "")}</Link>
              </h3>
              <ul className="tile-rows">
                {((plan["items"] ?? []) as PlanItem[]).map((item, index) => (
                  <li key={index} className="tile-row">
                    <span className="grow cut-lines">{item.text}</span>
                    <span className="tile-row-end">
                      {item.planned
                        ? `${item.actual ?? 0} / ${item.planned}`
                        : t(item.done ? "myDay.done" : "myDay.open")}
                    </span>
                  </li>
                ))}
              </ul>
            </section>
          ))
        )
      }
    </Tile>
  );
}

function Summaries() {
  const { t, language } = useText();
  const found = useQuery(
    firstPageQuery("workSummaries", { filter: "owner = me", orderBy: "startDate desc", pageSize: 3 }),
  );
  const session = useSession();
  const mayCreate = may(session, useCatalogue().find("workSummaries")?.permissions.create);
  return (
    <Tile title={t("myDay.summaries")} all="/workSummaries" query={found}>
      {({ records }) => (
        <>
          <ul className="tile-rows">
            {records.map((summary) => (
              <li key={summary.name}>
                <Link to={`/${summary.name}`} className="tile-row">
                  <span className="grow cut-lines">{String(summary["displayName"] ?? "")}</span>
                  <span className="tile-row-end">
                    {formatDate(toIso(summary["startDate"] as DateJson | undefined), language)}
                  </span>
                </Link>
              </li>
            ))}
          </ul>
          {mayCreate && (
            <button
              type="button"
              className="button"
              onClick={() => send({ kind: "create", collection: "workSummaries" })}
            >
              {t("myDay.newSummary")}
            </button>
          )}
        </>
      )}
    </Tile>
  );
}

/** Links that the company keeps in its dictionary of tools. */
function Tools() {
  const { t, language } = useText();
  const found = useQuery(firstPageQuery("dictionaries", { filter: 'key = "tools"', pageSize: 1 }));
  const entries = ((found.data?.records[0]?.["entries"] ?? []) as Tool[]).filter(
    (entry) => !entry.retired && /^https?:\/\//.test(entry.externalCode ?? ""),
  );
  if (entries.length === 0) return null;
  return (
    <Tile title={t("myDay.tools")} query={found}>
      {() => (
        <ul className="tile-rows">
          {entries.map((entry) => (
            <li key={entry.key}>
              <a className="tile-row" href={entry.externalCode} target="_blank" rel="noreferrer noopener">
                {(language === "en" ? entry.label?.en : entry.label?.zh) || entry.key}
              </a>
            </li>
          ))}
        </ul>
      )}
    </Tile>
  );
}
