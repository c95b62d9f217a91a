import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Drawer } from "antd";
import { useState } from "react";
import { Link, useNavigate } from "react-router";
import { act } from "@/api/client";
import { useText } from "@/i18n";
import { dated, formatDate } from "@/kit/dates";
import { FieldValue, Reference } from "@/kit/field-value";
import { recordQuery, useResource, useSession } from "@/kit/queries";
import { Loaded } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import { instantOf, ownZone, wallTime, zoneName } from "@/kit/zones";
import { Answer } from "./answer";
import { DateForm } from "./date-form";
import type { Event, OneDate, Range } from "./dates";
import { RangeDialog } from "./range-dialog";
import { dateFormat } from "@/kit/formatters";

const SHOWN = ["kind", "recurrence", "location", "rooms", "agenda", "minutes", "links"];

/** One date, as the calendar draws it, beside it: when and where, who comes, one's own answer, and what its organizer may do. */
export function EventDrawer({ date, onClose }: { date: OneDate; onClose: () => void }) {
  const { t } = useText();
  const event = useQuery(recordQuery(date.event));
  const own = (event.data as Event | undefined)?.overrides?.find(
    ({ occurrence }) => date.occurrence !== "" && occurrence === date.occurrence,
  );
  return (
    <Drawer
      open
      size={480}
      title={own?.displayName || String(event.data?.["displayName"] ?? t("page.calendar"))}
      onClose={onClose}
    >
      <Loaded query={event} lines={8}>
        {(record) => (
          <Details event={record as Event} date={onTheWallOf(record as Event, date)} onClose={onClose} />
        )}
      </Loaded>
    </Drawer>
  );
}

function Details({ event, date, onClose }: { event: Event; date: OneDate; onClose: () => void }) {
  const { t, label } = useText();
  const session = useSession();
  const resource = useResource("calendarEvents");
  const fields = resource.fields.filter(
    ({ name }) => SHOWN.includes(name) && !isEmpty(event[name as keyof Event]),
  );
  const state = resource.fields.find(({ name }) => name === "state");
  const mine = event.owner === session.employee && !event.organizer && event.state === "SCHEDULED";
  const response = resource.fields
    .find(({ name }) => name === "attendees")
    ?.fields.find(({ name }) => name === "response");
  return (
    <div className="stack">
      <When event={event} date={date} />
      {state && event.state !== "SCHEDULED" && <FieldValue field={state} value={event.state} />}
      <Answer event={event} />
      <dl className="pairs">
        {fields.map((field) => (
          <div key={field.name}>
            <dt>{label(field.label)}</dt>
            <dd>
              <FieldValue field={field} value={event[field.name as keyof Event]} />
            </dd>
          </div>
        ))}
      </dl>
      <section>
        <h3>{t("calendar.who")}</h3>
        <ul className="coming">
          <li>
            {event.organizer || <Reference name={event.owner ?? ""} link={false} />}{" "}
            <span className="faint">{t("calendar.organizer")}</span>
          </li>
          {(event.attendees ?? []).map((one, index) => (
            <li key={one.employee || one.contact || one.email || index}>
              {one.employee || one.contact ? (
                <Reference name={one.employee || one.contact || ""} link={false} />
              ) : (
                one.displayName || one.email
              )}{" "}
              {response && <FieldValue field={{ ...response, name: "state" }} value={one.response} />}
              {one.optional && <span className="faint"> {t("calendar.optional")}</span>}
              {one.comment && <p className="prose">{one.comment}</p>}
            </li>
          ))}
        </ul>
      </section>
      <div className="row">
        {mine && <Own event={event} date={date} onClose={onClose} />}
        <Link to={`/${event.name}`}>{t("calendar.whole")}</Link>
      </div>
    </div>
  );
}

/** The grid draws on one's own wall; who changes a date does so on the wall of the event. */
function onTheWallOf(event: Event, date: OneDate): OneDate {
  if (!date.start.includes("T") || !event.timeZone) return date;
  const there = (wall: string) => wallTime(instantOf(wall, ownZone()), event.timeZone ?? "");
  return { ...date, start: there(date.start), end: there(date.end) };
}

/** The time on one's own clock; where the event has another zone, on the clock there too. */
function When({ event, date }: { event: Event; date: OneDate }) {
  const { t, language } = useText();
  const zone = event.timeZone || ownZone();
  if (!date.start.includes("T"))
    return (
      <p>
        <strong>
          {[...new Set([date.start, date.end])].map((day) => formatDate(day, language)).join(" – ")}
        </strong>
      </p>
    );
  const [start, end] = [instantOf(date.start, zone), instantOf(date.end, zone)];
  const inZone = (shown: string) =>
    dateFormat(dated(language), {
      dateStyle: "full",
      timeStyle: "short",
      timeZone: shown,
    }).formatRange(start, end);
  return (
    <div>
      <p>
        <strong>{inZone(ownZone())}</strong>
      </p>
      <p className="faint">{zoneName(ownZone(), language, start)}</p>
      {zone !== ownZone() && (
        <p className="faint">
          {t("calendar.there", { zone: zoneName(zone, language, start), time: inZone(zone) })}
        </p>
      )}
    </div>
  );
}

/** What who has invited may do: change and call off, one date, those behind it, or all. */
function Own({ event, date, onClose }: { event: Event; date: OneDate; onClose: () => void }) {
  const { t } = useText();
  const navigate = useNavigate();
  const client = useQueryClient();
  const [asking, setAsking] = useState<"change" | "cancel">();
  const [range, setRange] = useState<Range>();
  const series = date.occurrence !== "";
  const whole = () => void navigate(`/${event.name}/edit`);
  const cancel = async (which: Range, reason: string) => {
    setAsking(undefined);
    try {
      await act(
        event.name,
        "cancel",
        { range: which, reason, ...(series ? { occurrence: date.occurrence } : {}) },
        event.etag,
      );
      tell(t("calendar.cancelled"));
      onClose();
    } catch (error) {
      tell(t("calendar.notCancelled"), "bad", { detail: messageOf(error) });
    }
  };
  return (
    <>
      <button
        type="button"
        className="button button-primary"
        onClick={() => (series ? setAsking("change") : whole())}
      >
        {t("action.edit")}
      </button>
      <button type="button" className="button" onClick={() => setAsking("cancel")}>
        {t("calendar.cancel")}
      </button>
      {asking === "change" && (
        <RangeDialog
          title={t("action.edit")}
          series
          onOk={(which) => {
            setAsking(undefined);
            if (which === "EVERY") whole();
            else setRange(which);
          }}
          onCancel={() => setAsking(undefined)}
        />
      )}
      {asking === "cancel" && (
        <RangeDialog
          title={t("calendar.cancel")}
          series={series}
          danger
          asksWhy
          onOk={(which, reason) => void cancel(which, reason)}
          onCancel={() => setAsking(undefined)}
        />
      )}
      {range && (
        <DateForm
          event={event}
          date={date}
          range={range}
          onClose={(changed) => {
            setRange(undefined);
            if (!changed) return;
            // What is split off is answered, and not what it was split off from.
            void client.invalidateQueries({ queryKey: ["record", event.name] });
            tell(t("calendar.changed"));
            onClose();
          }}
        />
      )}
    </>
  );
}

const isEmpty = (value: unknown) =>
  value === undefined || value === "" || (Array.isArray(value) && value.length === 0);
