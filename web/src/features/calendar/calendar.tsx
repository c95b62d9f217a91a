import { LeftOutlined, RightOutlined } from "@ant-design/icons";
import type { DatesSetArg, EventApi, EventInput } from "@fullcalendar/core";
import dayGrid from "@fullcalendar/daygrid";
import interaction from "@fullcalendar/interaction";
import list from "@fullcalendar/list";
import FullCalendar from "@fullcalendar/react";
import timeGrid from "@fullcalendar/timegrid";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useMemo, useRef, useState } from "react";
import { useNavigate, useSearchParams } from "react-router";
import { get } from "@/api/client";
import { leads, may } from "@/api/session";
import { useText } from "@/i18n";
import { type DateJson, dated, toIso } from "@/kit/dates";
import { send } from "@/kit/commands";
import { Page } from "@/kit/page";
import { firstPageQuery, titleOf, useReferences, useResource, useSession } from "@/kit/queries";
import { ReferencePicker } from "@/kit/reference-picker";
import { Segmented } from "@/kit/segmented";
import { ErrorNote } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import { useNarrow } from "@/kit/viewport";
import { ownZone, wallTime, zoneName } from "@/kit/zones";
import { ClashDialog } from "./clash-dialog";
import { dayAfter, isClash, moveDates, type Instance, type OneDate, type Range, type Span } from "./dates";
import { EventDrawer } from "./event-drawer";
import { instancesQuery } from "./instances";
import { RangeDialog } from "./range-dialog";
import { TeamTable } from "./team-table";
import zh from "@fullcalendar/core/locales/zh-cn";
import en from "@fullcalendar/core/locales/en-gb";
import { dateFormat } from "@/kit/formatters";

interface Move {
  date: OneDate;
  to: Span;
  revert: () => void;
}

/** What stands behind an event of the grid. */
interface Props {
  event: string;
  occurrence: string;
}

const VIEWS: Record<string, string> = {
  day: "timeGridDay",
  week: "timeGridWeek",
  month: "dayGridMonth",
  list: "listMonth",
  team: "",
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
  const [dropped, setDropped] = useState<Move>();
  const [clash, setClash] = useState<{ move: Move; which: Range; message: string }>();
  const asked = params.get("view") ?? "";
  const view = Object.hasOwn(VIEWS, asked) ? asked : narrow ? "day" : "week";
  const days = narrow ? 1 : 7;
  const date = params.get("date") || wallTime(new Date(), ownZone()).slice(0, 10);
  const first = narrow ? date : mondayOf(date);
  const team = params.get("team") === "1";
  const shownDate = params.get("event") ?? "";
  const put = (key: string, value: string) =>
    setParams((before) => withKey(before, key, value), { replace: true });

  const found = useQuery({
    ...instancesQuery({ from: range?.from ?? "", to: range?.to ?? "", people, team }),
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
      // The grid takes the end of whole days as the day after the last.
      end: one.endDate ? dayAfter(one.endDate) : one.endTime || "",
      allDay: Boolean(one.startDate),
      color: COLOURS[Math.max(0, who) % COLOURS.length] ?? "",
      classNames: one.state === "CANCELLED" ? ["event-off"] : !one.displayName ? ["event-busy"] : [],
      editable: Boolean(one.event) && one.employee === session.employee && one.state === "SCHEDULED",
      extendedProps: {
        event: one.event,
        occurrence: one.series ? one.occurrence : "",
      } satisfies Partial<Props>,
    };
  });

  const move = async (change: Move, which: Range, accepted = false) => {
    try {
      await moveDates(change.date, change.to, which, accepted);
      tell(t("calendar.moved"));
    } catch (error) {
      if (isClash(error) && !accepted) return setClash({ move: change, which, message: messageOf(error) });
      change.revert();
      tell(t("calendar.notMoved"), "bad", { detail: messageOf(error) });
    } finally {
      // What is split off is answered, and not what it was split off from.
      void client.invalidateQueries({ queryKey: ["record", change.date.event] });
    }
  };
  const drop = async (event: EventApi, before: EventApi | null, revert: () => void) => {
    const { event: name, occurrence } = event.extendedProps as Props;
    const zone = String(((await get(name))["timeZone"] as string | undefined) || ownZone());
    const to = spanIn(zone, event);
    const was = spanIn(zone, before ?? event);
    // What takes whole days cannot be drawn into the hours, nor the other way round.
    if (!to || !was || to.start.includes("T") !== was.start.includes("T")) return revert();
    const change = { date: { event: name, occurrence, ...was }, to, revert };
    if (occurrence) setDropped(change);
    else void move(change, "ONE");
  };
  const go = (to: "prev" | "next" | "today") => {
    const by = to === "prev" ? -days : days;
    if (view === "team") put("date", to === "today" ? "" : dayAfter(date, by));
    else calendar.current?.getApi()[to]();
  };
  const show = (event: string, occurrence: string, span: Span) =>
    put("event", [event, occurrence, span.start, span.end].join("@"));
  const shown = useCallback(
    (dates: DatesSetArg) => {
      const [from, to] = [dates.start.toISOString(), dates.end.toISOString()];
      setTitle(dates.view.title);
      setRange((before) => (before?.from === from && before.to === to ? before : { from, to }));
      const day = wallTime(dates.view.currentStart, ownZone()).slice(0, 10);
      // The first dates are told while the page is still being put in place, when no address can be changed.
      queueMicrotask(() =>
        setParams((before) => (before.get("date") === day ? before : withKey(before, "date", day)), {
          replace: true,
        }),
      );
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
            options={Object.keys(VIEWS)
              .filter((key) => key !== "team" || leads(session))
              .map((key) => ({ key, title: t(`calendar.${key}`) }))}
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
        <h2 role="status">{view === "team" ? spanTitle(first, days, language) : title}</h2>
        <span className="faint">{t("calendar.zone", { zone: zoneName(ownZone(), language) })}</span>
        <span className="grow" />
        {leads(session) && view !== "team" && (
          <button
            type="button"
            className="chip"
            aria-pressed={team}
            onClick={() => put("team", team ? "" : "1")}
          >
            {t("calendar.overlay")}
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
      {view === "team" ? (
        <TeamTable
          from={first}
          days={days}
          people={people}
          onOpen={(one) =>
            show(one.event ?? "", one.series ? (one.occurrence ?? "") : "", spanOfInstance(one))
          }
        />
      ) : (
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
            dayCellDidMount={({ el, date, view: shownView }) => {
              // The cell would be called by its day alone, not by what stands in it.
              el.removeAttribute("aria-labelledby");
              // Keys scroll a week that has no events, too.
              if (shownView.type.startsWith("timeGrid") && date.getTime() === shownView.activeStart.getTime())
                el.tabIndex = 0;
            }}
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
              const { event: name, occurrence } = event.extendedProps as Props;
              const span = spanIn(ownZone(), event);
              if (name.startsWith("calendarEvents/") && span) show(name, occurrence, span);
              else if (name) void navigate(`/${name}`);
            }}
            eventDrop={({ event, oldEvent, revert }) => void drop(event, oldEvent, revert)}
            eventResize={({ event, oldEvent, revert }) => void drop(event, oldEvent, revert)}
          />
        </div>
      )}
      {shownDate && <Shown text={shownDate} onClose={() => put("event", "")} />}
      {dropped && (
        <RangeDialog
          title={t("calendar.move")}
          series
          onOk={(which) => {
            setDropped(undefined);
            void move(dropped, which);
          }}
          onCancel={() => {
            dropped.revert();
            setDropped(undefined);
          }}
        />
      )}
      {clash && (
        <ClashDialog
          message={clash.message}
          onAccept={() => {
            setClash(undefined);
            void move(clash.move, clash.which, true);
          }}
          onCancel={() => {
            clash.move.revert();
            setClash(undefined);
          }}
        />
      )}
    </Page>
  );
}

/** The date that the address names: its event, which of the series, and its time on one's own wall. */
function Shown({ text, onClose }: { text: string; onClose: () => void }) {
  const [event = "", occurrence = "", start = "", end = ""] = text.split("@");
  return <EventDrawer key={text} date={{ event, occurrence, start, end }} onClose={onClose} />;
}

/** When something lies in the grid: on the wall of a zone, or its first and last day. */
function spanIn(zone: string, { start, end, allDay }: EventApi): Span | undefined {
  if (!start) return undefined;
  const last = end ?? (allDay ? new Date(start.getTime() + 86_400_000) : undefined);
  if (!last) return undefined;
  if (!allDay) return { start: wallTime(start, zone), end: wallTime(last, zone) };
  return { start: wallTime(start, ownZone()).slice(0, 10), end: dayAfter(wallTime(last, ownZone()), -1) };
}

const spanOfInstance = (one: Instance): Span =>
  one.startDate
    ? { start: one.startDate, end: one.endDate || one.startDate }
    : { start: wallTime(one.startTime ?? "", ownZone()), end: wallTime(one.endTime ?? "", ownZone()) };

const spanTitle = (first: string, days: number, language: string) =>
  dateFormat(dated(language), { dateStyle: "long", timeZone: "UTC" }).formatRange(
    new Date(`${first}T00:00Z`),
    new Date(`${dayAfter(first, days - 1)}T00:00Z`),
  );

const mondayOf = (day: string) => dayAfter(day, -((new Date(`${day}T00:00Z`).getUTCDay() + 6) % 7));

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
