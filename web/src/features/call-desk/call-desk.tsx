import { PhoneOutlined } from "@ant-design/icons";
import { useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";
import { act, type RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { useAddress } from "@/kit/address";
import { Caller } from "@/kit/caller";
import { fieldsNamed } from "@/kit/columns";
import { formatInstant } from "@/kit/dates";
import { DialButton } from "@/kit/dial-button";
import { FieldValue, Reference } from "@/kit/field-value";
import { Page } from "@/kit/page";
import { columnOf, PagedTable } from "@/kit/plain-table";
import {
  aggregateQuery,
  firstPageQuery,
  pagesQuery,
  recordQuery,
  titleOf,
  useResource,
  useSession,
} from "@/kit/queries";
import { Empty, Loaded, Refused } from "@/kit/states";
import { Figure } from "@/kit/figure";
import { messageOf, VerbDialog } from "@/kit/verbs";
import { Directory } from "./directory";
import { Script, type Answer } from "./script";

export type PhoneCall = Schema<"sales.Call"> & RecordJson;
type Entry = Schema<"sales.CallEntry"> & RecordJson;

const LISTS = 50;
const PAGE = 20;
const LIVE = 'owner = me AND (state = "DIALLING" OR state = "CONNECTED" OR state = "ENDED")';

/** The day of who sells by telephone: the call that is on, else whom to call next; what was promised; what came of today. */
export function CallDeskPage() {
  const { t } = useText();
  const [params] = useAddress();
  const lists = useQuery(
    firstPageQuery("callLists", { filter: 'state = "RUNNING"', orderBy: "displayName", pageSize: LISTS }),
  );
  const live = useQuery(firstPageQuery("calls", { filter: LIVE, orderBy: "startTime desc", pageSize: 1 }));
  return (
    <Page title={t("page.callDesk")}>
      <div className="stack">
        <Today />
        <Loaded query={live}>
          {({ records: [call] }) =>
            call ? (
              <Talk key={call.name} call={call as PhoneCall} />
            ) : (
              <>
                <Keypad />
                <Loaded query={lists}>{({ records }) => <Queue lists={records} />}</Loaded>
                <Directory list={params.get("list") ?? lists.data?.records[0]?.name} />
              </>
            )
          }
        </Loaded>
        <Promised />
      </div>
    </Page>
  );
}

/** Any number that is on no list. */
function Keypad() {
  const { t } = useText();
  const [number, setNumber] = useState("");
  return (
    <section className="card card-body row" aria-label={t("callDesk.anyNumber")}>
      <label className="row">
        <span className="faint">{t("callDesk.anyNumber")}</span>
        <input
          className="input"
          type="tel"
          inputMode="tel"
          value={number}
          onChange={(event) => setNumber(event.target.value)}
        />
      </label>
      <DialButton number={number} />
    </section>
  );
}

/** Everything on the desk hangs together: what is done to one changes the others. */
function useRenew() {
  const client = useQueryClient();
  return () => {
    for (const collection of ["calls", "callEntries"]) {
      void client.invalidateQueries({ queryKey: ["list", collection] });
      void client.invalidateQueries({ queryKey: ["aggregate", collection] });
    }
  };
}

function Queue({ lists }: { lists: RecordJson[] }) {
  const { t, language, label } = useText();
  const session = useSession();
  const renew = useRenew();
  const resource = useResource("callEntries");
  const listsOf = useResource("callLists");
  const [params, go] = useAddress();
  const list = lists.find(({ name }) => name === params.get("list")) ?? lists[0];
  const held = useQuery(
    firstPageQuery("callEntries", { filter: 'state = "LOCKED" AND lockedBy = me', pageSize: 1 }),
  );
  const [failure, setFailure] = useState("");
  const [skipping, setSkipping] = useState(false);
  const [busy, setBusy] = useState(false);
  const skip = resource.verbs.find(({ name }) => name === "skip");
  const dial = resource.verbs.find(({ name }) => name === "dial");

  const run = async (name: string, verb: string) => {
    setBusy(true);
    setFailure("");
    try {
      await act(name, verb, {}, undefined, crypto.randomUUID());
    } catch (error) {
      setFailure(messageOf(error));
    } finally {
      setBusy(false);
      renew();
    }
  };
  if (!list)
    return (
      <section className="card">
        <Empty title={t("callDesk.noList")} text={t("callDesk.noListText")}>
          <Link className="button" to="/callLists">
            {t("callDesk.lists")}
          </Link>
        </Empty>
      </section>
    );
  return (
    <section className="card" aria-label={t("callDesk.next")}>
      <div className="card-head">
        <label className="row">
          <span className="faint">{label(listsOf.label)}</span>
          <select
            className="input"
            value={list.name}
            onChange={(event) => {
              setFailure("");
              go({ list: event.target.value });
            }}
          >
            {lists.map((one) => (
              <option key={one.name} value={one.name}>
                {titleOf(one, listsOf, language)}
              </option>
            ))}
          </select>
        </label>
      </div>
      <div className="card-body stack">
        <Refused>{failure}</Refused>
        <Loaded query={held}>
          {({ records: [locked] }) => {
            const entry = locked as Entry | undefined;
            if (!entry)
              return (
                <div>
                  <button
                    type="button"
                    className="button button-primary"
                    disabled={busy}
                    onClick={() => void run(list.name, "next")}
                  >
                    {t("callDesk.takeNext")}
                  </button>
                </div>
              );
            return (
              <>
                <Who
                  title={entry.displayName ?? ""}
                  number={entry.numberCalled ?? ""}
                  subject={entry.subject}
                />
                <dl className="pairs">
                  {fieldsNamed(resource.fields, ["attempts", "lastDisposition", "nextTime", "note"])
                    .filter(({ name }) => Boolean(entry[name]))
                    .map((field) => (
                      <div key={field.name}>
                        <dt>{label(field.label)}</dt>
                        <dd>
                          <FieldValue field={field} value={entry[field.name]} />
                        </dd>
                      </div>
                    ))}
                </dl>
                <p className="faint">
                  {t("callDesk.keptUntil", { time: formatInstant(entry.lockUntilTime ?? "", language) })}
                </p>
                <div className="row">
                  {dial && may(session, dial.permission) && (
                    <button
                      type="button"
                      className="button button-primary"
                      disabled={busy}
                      onClick={() => void run(entry.name, "dial")}
                    >
                      <PhoneOutlined aria-hidden="true" /> {label(dial.label)}
                    </button>
                  )}
                  {skip && may(session, skip.permission) && (
                    <button type="button" className="button" onClick={() => setSkipping(true)}>
                      {label(skip.label)}
                    </button>
                  )}
                </div>
                {skipping && skip && (
                  <VerbDialog
                    record={entry}
                    verb={skip}
                    onClose={() => {
                      setSkipping(false);
                      renew();
                    }}
                  />
                )}
              </>
            );
          }}
        </Loaded>
      </div>
    </section>
  );
}

function Who({ title, number, subject }: { title: string; number: string; subject: string | undefined }) {
  const { t } = useText();
  return (
    <div className="call-who">
      <h2>{title || (subject ? <Reference name={subject} /> : t("callDesk.stranger"))}</h2>
      <a className="call-number" href={`tel:${number}`}>
        {number}
      </a>
      {title && subject && <Reference name={subject} />}
    </div>
  );
}

/** The call that is on: with whom, what to say, and what came of it before the next one. */
function Talk({ call }: { call: PhoneCall }) {
  const { t, label } = useText();
  const renew = useRenew();
  const resource = useResource("calls");
  const [answers, setAnswers] = useState<Answer[]>([]);
  const [asking, setAsking] = useState(false);
  const [failure, setFailure] = useState("");
  const entry = useQuery({ ...recordQuery(call.entry ?? ""), enabled: Boolean(call.entry) }).data;
  const state = resource.fields.find(({ name }) => name === "state");
  const verb = (name: string) => resource.verbs.find((one) => one.name === name);
  const wrapUp = verb("wrapUp");
  const number = call.direction === "INBOUND" ? call.fromNumber : call.toNumber;
  const run = async (name: string) => {
    setFailure("");
    try {
      await act(call.name, name, {}, call.etag, crypto.randomUUID());
    } catch (error) {
      setFailure(messageOf(error));
    } finally {
      renew();
    }
  };
  const steps = [
    ...(call.state === "DIALLING" ? ["answer"] : []),
    ...(call.state === "ENDED" ? [] : ["end"]),
  ].flatMap((name) => verb(name) ?? []);

  return (
    <div className="split call-split">
      <section className="card" aria-label={t("callDesk.call")}>
        <div className="card-head">
          <h2>{t(call.direction === "INBOUND" ? "callDesk.inbound" : "callDesk.outbound")}</h2>
          {state && <FieldValue field={state} value={call.state} />}
        </div>
        <div className="card-body stack">
          <Refused>{failure}</Refused>
          <Who title={String(entry?.["displayName"] ?? "")} number={number ?? ""} subject={call.subject} />
          {number && <Caller number={number} />}
          <div className="row">
            {steps.map((one) => (
              <button key={one.name} type="button" className="button" onClick={() => void run(one.name)}>
                {label(one.label)}
              </button>
            ))}
            {wrapUp && (
              <button type="button" className="button button-primary" onClick={() => setAsking(true)}>
                {label(wrapUp.label)}
              </button>
            )}
          </div>
          {asking && wrapUp && (
            <VerbDialog
              record={call}
              verb={wrapUp}
              initial={{ answers }}
              onClose={() => {
                setAsking(false);
                renew();
              }}
            />
          )}
        </div>
      </section>
      {call.script && <Script name={call.script} answers={answers} onAnswer={setAnswers} />}
    </div>
  );
}

/** Whom one has promised to call, the earliest first. */
function Promised() {
  const { t, label } = useText();
  const { fields } = useResource("callEntries");
  const pages = useInfiniteQuery(
    pagesQuery("callEntries", {
      filter: 'state = "CALLBACK" AND owner = me',
      orderBy: "nextTime",
      pageSize: PAGE,
    }),
  );
  return (
    <section className="card">
      <div className="card-head">
        <h2>{t("callDesk.promised")}</h2>
      </div>
      <div className="card-body">
        <PagedTable
          caption={t("callDesk.promised")}
          pages={pages}
          none={<p className="faint">{t("callDesk.nonePromised")}</p>}
          stacked
          columns={fieldsNamed(fields, ["displayName", "nextTime", "numberCalled", "note", "callList"]).map(
            (field) => columnOf(field, label),
          )}
        />
      </div>
    </section>
  );
}

/** What came of today's calls. */
function Today() {
  const { t, label } = useText();
  const outcome = useResource("calls").fields.find(({ name }) => name === "disposition");
  const rows = useQuery(
    aggregateQuery("calls", { filter: "owner = me AND startTime >= today", groupBy: ["disposition"] }),
  ).data;
  if (!rows || rows.length === 0) return null;
  return (
    <div className="figures" role="group" aria-label={t("callDesk.today")}>
      {rows.map(({ group: [value], count }) => {
        const choice = outcome?.choices.find((one) => one.value === value);
        return (
          <Figure key={value ?? ""} label={choice ? label(choice.label) : t("callDesk.open")}>
            {count}
          </Figure>
        );
      })}
    </div>
  );
}
