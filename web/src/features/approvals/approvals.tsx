import { useAddress } from "@/kit/address";
import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { act, type RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { formatRelative } from "@/kit/dates";
import { Reference } from "@/kit/field-value";
import { Page } from "@/kit/page";
import { pagesQuery, recordsOf, titleOf, useResource, useSession } from "@/kit/queries";
import { Segmented } from "@/kit/segmented";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import { Decision } from "./decision";
import { MorePages } from "@/kit/more-pages";

const PAGE = 30;
const TABS = {
  todo: 'state = "PENDING" AND NOT requester = me',
  mine: "requester = me",
  done: 'NOT state = "PENDING"',
  copied: "copied:me",
} as const;
type Tab = keyof typeof TABS;

/** What waits for my decision, what I asked for, what is decided: see it whole, decide, go on to the next. */
export function ApprovalsPage() {
  const { t, language } = useText();
  const client = useQueryClient();
  const session = useSession();
  const resource = useResource("approvals");
  const [params, go] = useAddress();
  const asked = params.get("tab") ?? "";
  const tab: Tab = Object.hasOwn(TABS, asked) ? (asked as Tab) : "todo";
  const pages = useInfiniteQuery(
    pagesQuery("approvals", {
      filter: TABS[tab],
      orderBy: tab === "todo" ? "createTime" : "createTime desc",
      pageSize: PAGE,
    }),
  );
  const records = recordsOf(pages);
  const [chosen, setChosen] = useState<string>();
  const [picked, setPicked] = useState<ReadonlySet<string>>(new Set());
  const [busy, setBusy] = useState(false);
  const open = records.find((record) => record.name === chosen) ?? records[0];
  const decidable = (record: RecordJson) => tab === "todo" && record["requester"] !== session.employee;

  const approveAll = async () => {
    setBusy(true);
    let agreed = 0;
    for (const record of records.filter(({ name }) => picked.has(name)))
      await act(record.name, "approve", { digest: record["digest"] }, record.etag)
        .then(() => agreed++)
        .catch((error: unknown) =>
          tell(titleOf(record, resource, language), "bad", { detail: messageOf(error) }),
        );
    if (agreed > 0) tell(t("approvals.agreed", { count: agreed }));
    setPicked(new Set());
    setBusy(false);
    void client.invalidateQueries({ queryKey: ["list", "approvals"] });
  };

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
          <button
            type="button"
            className="button button-primary"
            disabled={busy}
            onClick={() => void approveAll()}
          >
            {t("approvals.approveAll", { count: picked.size })}
          </button>
          <button type="button" className="link" onClick={() => setPicked(new Set())}>
            {t("list.unselect")}
          </button>
        </div>
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
          <ul className="card inbox">
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
