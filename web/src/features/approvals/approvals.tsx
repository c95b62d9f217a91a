import { useAddress } from "@/kit/address";
import { useInfiniteQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { formatRelative } from "@/kit/dates";
import { quote } from "@/kit/filter";
import { FieldValue, Reference } from "@/kit/field-value";
import { Page } from "@/kit/page";
import { pagesQuery, recordsOf, titleOf, useResource, useSession } from "@/kit/queries";
import { Segmented } from "@/kit/segmented";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";
import { Decision } from "./decision";
import { awaits, Together, VOTES, type Vote } from "./together";
import { MorePages } from "@/kit/more-pages";

const PAGE = 30;
/** What each tab lists; the requester is kept as a name, of which the filter knows no "me". */
const TABS = {
  todo: (me: string) => `state = "PENDING" AND NOT requester = ${me}`,
  mine: (me: string) => `requester = ${me}`,
  done: (me: string) => `NOT state = "PENDING" AND NOT requester = ${me}`,
  copied: (me: string) => `copied:${me}`,
};
type Tab = keyof typeof TABS;

/** What waits for my decision, what I asked for, what is decided: see it whole, decide, go on to the next. */
export function ApprovalsPage() {
  const { t, language } = useText();
  const session = useSession();
  const resource = useResource("approvals");
  const [params, go] = useAddress();
  const asked = params.get("tab") ?? "";
  const tab: Tab = Object.hasOwn(TABS, asked) ? (asked as Tab) : "todo";
  const pages = useInfiniteQuery(
    pagesQuery("approvals", {
      filter: TABS[tab](quote(session.employee)),
      orderBy: tab === "todo" ? "createTime" : "createTime desc",
      pageSize: PAGE,
    }),
  );
  const records = recordsOf(pages);
  const state = resource.fields.find(({ name }) => name === "state");
  const [chosen, setChosen] = useState<string>();
  const [picked, setPicked] = useState<ReadonlySet<string>>(new Set());
  const [vote, setVote] = useState<Vote>();
  const open = records.find((record) => record.name === chosen) ?? records[0];
  const decidable = (record: RecordJson) => tab === "todo" && awaits(record, session.employee);
  const waiting = records.filter(decidable);
  const chosenOnes = records.filter(({ name }) => picked.has(name));

  return (
    <Page
      title={t("page.approvals")}
      actions={
        <Segmented
          label={t("page.approvals")}
          value={tab}
          options={(Object.keys(TABS) as Tab[]).map((key) => ({ key, title: t(`approvals.${key}`) }))}
          onChange={(key) => {
            go({ tab: key === "todo" ? "" : key });
            setPicked(new Set());
          }}
        />
      }
    >
      {picked.size > 0 && (
        <div className="selection" role="region" aria-label={t("list.selection")}>
          <strong role="status">{t("list.selected", { count: picked.size })}</strong>
          {VOTES.map((one) => (
            <button
              key={one}
              type="button"
              className={`button ${one === "AGREED" ? "button-primary" : ""}`}
              onClick={() => setVote(one)}
            >
              {t(`approvals.bulk.${one}`, { count: picked.size })}
            </button>
          ))}
          <button type="button" className="link" onClick={() => setPicked(new Set())}>
            {t("list.unselect")}
          </button>
        </div>
      )}
      {vote && (
        <Together
          records={chosenOnes}
          vote={vote}
          onClose={(decided) => {
            setVote(undefined);
            if (decided) setPicked(new Set());
          }}
        />
      )}
      {picked.size === 0 && waiting.length > 1 && (
        <button
          type="button"
          className="link"
          onClick={() => setPicked(new Set(waiting.map(({ name }) => name)))}
        >
          {t("approvals.pickAll", { count: waiting.length })}
        </button>
      )}
      {pages.isError ? (
        <ErrorNote error={pages.error} onRetry={() => void pages.refetch()} />
      ) : pages.isPending ? (
        <Skeleton lines={8} />
      ) : records.length === 0 ? (
        <section className="card">
          <Empty title={t(`approvals.none.${tab}`)} text={tab === "todo" ? t("approvals.noneText") : ""} />
        </section>
      ) : (
        <div className="split">
          <ul className="card inbox" aria-label={t(`approvals.${tab}`)}>
            {records.map((record) => (
              <li key={record.name}>
                {decidable(record) && (
                  <input
                    type="checkbox"
                    className="inbox-check"
                    aria-label={t("list.select", { title: titleOf(record, resource, language) })}
                    checked={picked.has(record.name)}
                    onChange={() =>
                      setPicked((before) => {
                        const next = new Set(before);
                        if (!next.delete(record.name)) next.add(record.name);
                        return next;
                      })
                    }
                  />
                )}
                <button
                  type="button"
                  className="inbox-pick"
                  aria-pressed={record === open}
                  onClick={() => setChosen(record.name)}
                >
                  <span>{titleOf(record, resource, language)}</span>
                  <span className="faint">
                    <Reference name={String(record["requester"] ?? "")} link={false} /> ·{" "}
                    {formatRelative(String(record["createTime"] ?? ""), language)}
                  </span>
                  {tab !== "todo" && state && <FieldValue field={state} value={record["state"]} />}
                </button>
              </li>
            ))}
            {pages.hasNextPage && (
              <li>
                <MorePages pages={pages} />
              </li>
            )}
          </ul>
          {open && <Decision key={open.name} resource={resource} record={open} />}
        </div>
      )}
    </Page>
  );
}
