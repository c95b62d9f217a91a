import { LeftOutlined, RightOutlined } from "@ant-design/icons";
import type { DatesSetArg, EventDropArg, EventInput } from "@fullcalendar/core";
import dayGrid from "@fullcalendar/daygrid";
import interaction, { type EventResizeDoneArg } from "@fullcalendar/interaction";
import list from "@fullcalendar/list";
import FullCalendar from "@fullcalendar/react";
import timeGrid from "@fullcalendar/timegrid";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Modal } from "antd";
import { useCallback, useMemo, useRef, useState } from "react";
import { useNavigate, useSearchParams } from "react-router";
import { act, get, request } from "@/api/client";
import { ApiError } from "@/api/errors";
import type { Schema } from "@/api/schema";
import { leads, may } from "@/api/session";
import { useText } from "@/i18n";
import { type DateJson, toIso } from "@/kit/dates";
import { send } from "@/kit/commands";
import { Page } from "@/kit/page";
import { firstPageQuery, titleOf, useReferences, useResource, useSession } from "@/kit/queries";
import { ReferencePicker } from "@/kit/reference-picker";
import { Segmented } from "@/kit/segmented";
import { ErrorNote } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import { useNarrow } from "@/kit/viewport";
import { ownZone, wallTime } from "@/kit/zones";
import zh from "@fullcalendar/core/locales/zh-cn";
import en from "@fullcalendar/core/locales/en-gb";

type Instance = Schema<"workspace.CalendarInstance">;

interface Move {
  event: string;
  occurrence: string;
  start: Date;
  end: Date;
  revert: () => void;
}

const VIEWS: Record<string, string> = {
  day: "timeGridDay",
  week: "timeGridWeek",
  month: "dayGridMonth",
  list: "listMonth",
};
const PLUGINS = [dayGrid, timeGrid, list, interaction];
const LOCALES = [zh, en];
const COLOURS = ["var(--chart-1)", "var(--chart-2)", "var(--chart-3)", "var(--chart-4)"];

/** Day, week, month and list of oneself or the team, with one's own to-dos on the days they are due: a drag moves, an empty place makes, a conflict asks first. */
export function CalendarPage() {
  const { t, language, noun } = useText();
  const navigate = useNavigate();
  const client = useQueryClient();
  const session = useSession();
  const resource = useResource("calendarEvents");
  const tasks = useResource("tasks");
  const narrow = useNarrow();
  const [params, setParams] = useSearchParams();
  const [range, setRange] = useState<{ from: string; to: string }>();
  const calendar = useRef<FullCalendar>(null);
  const [title, setTitle] = useState("");
  const [people, setPeople] = useState<string[]>([]);
  const [asking, setAsking] = useState<{ move: Move; message: string }>();
  const view = params.get("view") ?? (narrow ? "day" : "week");
  const team = params.get("team") === "1";
  const put = (key: string, value: string) =>
    setParams((before) => withKey(before, key, value), { replace: true });

  const query = new URLSearchParams({
    fromTime: range?.from ?? "",
    toTime: range?.to ?? "",
    ...(team ? { team: "true" } : {}),
  });
  people.forEach((person) => query.append("employees", person));
  const found = useQuery({
    queryKey: ["list", "calendarEvents", "query", query.toString()],
    queryFn: async () =>
      ((await (await request(`/v1/calendarEvents:query?${query}`)).json()) as { instances?: Instance[] })
        .instances ?? [],
    enabled: range !== undefined,
    placeholderData: (before) => before,
  });
  const open = '(state = "OPEN" OR state = "IN_PROGRESS" OR state = "BLOCKED")';
  const [from, to] = [range?.from ?? "", range?.to ?? ""];
  const due =
    `((dueTime >= "${from}" AND dueTime < "${to}") OR ` +
    `(dueDate >= "${from.slice(0, 10)}" AND dueDate < "${to.slice(0, 10)}"))`;
  const todos = useQuery({
    ...firstPageQuery("tasks", { filter: `owner = me AND ${open} AND ${due}`, pageSize: 200 }),
    enabled: range !== undefined && may(session, "workspace.tasks.read"),
  });
  const shownPeople = useMemo(
    () => [...new Set((found.data ?? []).flatMap(({ employee }) => (employee ? [employee] : [])))],
    [found.data],
  );
  const names = useReferences(shownPeople, language);
  const several = team || people.length > 0;

  const dueTasks = (todos.data?.records ?? []).map((task): EventInput => ({
    id: task.name,
    title: `☐ ${titleOf(task, tasks, language)}`,
    start: toIso(task["dueDate"] as DateJson) || String(task["dueTime"]),
    allDay: Boolean(task["dueDate"]),
    editable: false,
    extendedProps: { event: task.name, occurrence: "" },
  }));
  const events = (found.data ?? []).map((one): EventInput => {
    const who = shownPeople.indexOf(one.employee ?? "");
    // Of those one may not look into, only that the time is taken is told.
    const title = one.displayName || t("calendar.busy");
    return {
      id: `${one.event}@${one.occurrence}@${one.employee}`,
      title: several && names[who] ? `${names[who]} · ${title}` : title,
      start: one.startDate || one.startTime || "",
      end: one.endDate || one.endTime || "",
      allDay: Boolean(one.startDate),
      color: COLOURS[Math.max(0, who) % COLOURS.length] ?? "",
      classNames: one.state === "CANCELLED" ? ["event-off"] : !one.displayName ? ["event-busy"] : [],
      editable: Boolean(one.event) && one.employee === session.employee && one.state === "SCHEDULED",
      extendedProps: { event: one.event, occurrence: one.series ? one.occurrence : "" },
    };
  });

  const move = async (change: Move, accepted = false) => {
    try {
      const record = await get(change.event);
      const zone = String(record["timeZone"] || ownZone());
      await act(
        change.event,
        "move",
        {
          start: wallTime(change.start, zone),
          end: wallTime(change.end, zone),
          ...(change.occurrence ? { occurrence: change.occurrence } : {}),
          ...(accepted ? { acceptConflicts: true } : {}),
        },
        record.etag,
      );
      tell(t("calendar.moved"));
    } catch (error) {
      if (error instanceof ApiError && error.reason === "SCHEDULE_CONFLICT" && !accepted)
        return setAsking({ move: change, message: error.message });
      change.revert();
      tell(t("calendar.notMoved"), "bad", { detail: messageOf(error) });
    } finally {
      void client.invalidateQueries({ queryKey: ["list", "calendarEvents"] });
    }
  };
  const dropped = ({ event, revert }: EventDropArg | EventResizeDoneArg) => {
    const { event: name, occurrence } = event.extendedProps as { event: string; occurrence: string };
    if (!event.start || !event.end) return revert();
    void move({ event: name, occurrence, start: event.start, end: event.end, revert });
  };
  const go = (to: "prev" | "next" | "today") => calendar.current?.getApi()[to]();
  const shown = useCallback(
    (dates: DatesSetArg) => {
      const [from, to] = [dates.start.toISOString(), dates.end.toISOString()];
      setTitle(dates.view.title);
      setRange((before) => (before?.from === from && before.to === to ? before : { from, to }));
      const day = wallTime(dates.view.currentStart, ownZone()).slice(0, 10);
      setParams((before) => (before.get("date") === day ? before : withKey(before, "date", day)), {
        replace: true,
      });
    },
    [setParams],
  );
  const mayCreate = may(session, resource.permissions.create);
  const create = (start: Date, end: Date, allDay: boolean) =>
    send({
      kind: "create",
      collection: "calendarEvents",
      values: allDay
        ? { startDate: dayOf(start), endDate: dayOf(new Date(end.getTime() - 1)) }
        : { start: wallTime(start, ownZone()), end: wallTime(end, ownZone()), timeZone: ownZone() },
      onSaved: () => void client.invalidateQueries({ queryKey: ["list", "calendarEvents"] }),
    });

  return (
    <Page
      title={t("page.calendar")}
      fill
      actions={
        <>
          <Segmented
            label={t("list.views")}
            value={view}
            options={Object.keys(VIEWS).map((key) => ({ key, title: t(`calendar.${key}`) }))}
            onChange={(key) => put("view", key)}
          />
          {mayCreate && (
            <button
              type="button"
              className="button button-primary"
              onClick={() => create(nextHour(), nextHour(1), false)}
            >
              {t("form.newTitle", { what: noun(resource.label) })}
            </button>
          )}
        </>
      }
    >
      <div className="list-bar">
        <button type="button" className="chip" aria-label={t("calendar.before")} onClick={() => go("prev")}>
          <LeftOutlined />
        </button>
        <button type="button" className="chip" onClick={() => go("today")}>
          {t("moment.today")}
        </button>
        <button type="button" className="chip" aria-label={t("calendar.after")} onClick={() => go("next")}>
          <RightOutlined />
        </button>
        <h2 role="status">{title}</h2>
        <span className="grow" />
        {leads(session) && (
          <button
            type="button"
            className="chip"
            aria-pressed={team}
            onClick={() => put("team", team ? "" : "1")}
          >
            {t("calendar.team")}
          </button>
        )}
        <div className="calendar-people">
          <label className="visually-hidden" htmlFor="calendar-people">
            {t("calendar.people")}
          </label>
          <ReferencePicker
            id="calendar-people"
            collection="employees"
            many
            value={people}
            hint={t("calendar.people")}
            onChange={(next) => setPeople(Array.isArray(next) ? next : [])}
          />
        </div>
        {several && (
          <ul className="calendar-legend">
            {shownPeople.map((person, index) => (
              <li key={person}>
                <span style={{ background: COLOURS[index % COLOURS.length] }} aria-hidden="true" />
                {names[index] ?? "…"}
              </li>
            ))}
          </ul>
        )}
      </div>
      {found.isError && <ErrorNote error={found.error} onRetry={() => void found.refetch()} />}
      <div className="card calendar">
        <FullCalendar
          key={`${view}-${language}`}
          plugins={PLUGINS}
          locales={LOCALES}
          locale={language === "en" ? "en-gb" : "zh-cn"}
          initialView={VIEWS[view] ?? "timeGridWeek"}
          {...(params.get("date") ? { initialDate: params.get("date") ?? "" } : {})}
          ref={calendar}
          headerToolbar={false}
          // The cell would be called by its day alone, not by what stands in it.
          dayCellDidMount={({ el }) => el.removeAttribute("aria-labelledby")}
          height="100%"
          nowIndicator
          selectable={mayCreate}
          selectMirror
          longPressDelay={300}
          scrollTime="08:00:00"
          slotDuration="00:30:00"
          expandRows
          dayMaxEvents={4}
          events={[...events, ...dueTasks]}
          datesSet={shown}
          select={({ start, end, allDay }) => create(start, end, allDay)}
          eventClick={({ event }) => {
            const name = (event.extendedProps as { event?: string }).event;
            if (name) void navigate(`/${name}`);
          }}
          eventDrop={dropped}
          eventResize={dropped}
        />
      </div>
      {asking && (
        <Modal
          open
          title={t("calendar.conflict")}
          okText={t("calendar.moveAnyway")}
          cancelText={t("action.cancel")}
          onOk={() => {
            setAsking(undefined);
            void move(asking.move, true);
          }}
          onCancel={() => {
            asking.move.revert();
            setAsking(undefined);
          }}
        >
          <p>{asking.message}</p>
        </Modal>
      )}
    </Page>
  );
}

function withKey(before: URLSearchParams, key: string, value: string): URLSearchParams {
  const next = new URLSearchParams(before);
  if (value) next.set(key, value);
  else next.delete(key);
  return next;
}

const dayOf = (date: Date) => ({ year: date.getFullYear(), month: date.getMonth() + 1, day: date.getDate() });

function nextHour(later = 0): Date {
  const date = new Date();
  date.setHours(date.getHours() + 1 + later, 0, 0, 0);
  return date;
}
