import { useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";
import { act, request, type Json, type RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { formatInstant, formatRelative } from "@/kit/dates";
import { Reference } from "@/kit/field-value";
import { MenuButton } from "@/kit/menu-button";
import { Page } from "@/kit/page";
import { aggregateQuery, pagesQuery, recordsOf, titleOf, useResource } from "@/kit/queries";
import { Segmented } from "@/kit/segmented";
import { useAddress } from "@/kit/address";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import { Preferences } from "./preferences";
import { MorePages } from "@/kit/more-pages";

const PAGE = 30;
const NOW = "NOT snoozeTime:* AND NOT archiveTime:*";
const TABS: Record<string, string> = {
  unread: `NOT readTime:* AND ${NOW}`,
  all: NOW,
  snoozed: "snoozeTime:*",
  archived: "archiveTime:*",
};
const HOUR_MS = 3_600_000;
const MORNING = 9;

/** What the person was told: unread first, put off, laid aside; and what will come in the next days. */
export function NotificationsPage() {
  const { t } = useText();
  const client = useQueryClient();
  const [params, go] = useAddress();
  const [asking, setAsking] = useState(false);
  const tab = params.get("tab") ?? "unread";
  const kind = params.get("kind") ?? "";
  const filter = [TABS[tab], kind && `kind = "${kind}"`].filter(Boolean).join(" AND ");
  const pages = useInfiniteQuery(
    pagesQuery("notifications", { filter, orderBy: "createTime desc", pageSize: PAGE }),
  );
  const kinds = useQuery(aggregateQuery("notifications", { filter: TABS[tab], groupBy: ["kind"] }));
  const records = recordsOf(pages);
  const unread = records.filter((record) => !record["readTime"]);

  const run = async (verb: string, record: RecordJson, body: Json = {}) => {
    try {
      await act(record.name, verb, body, record.etag);
    } catch (error) {
      tell(messageOf(error), "bad");
    }
  };
  const readAll = async () => {
    try {
      await request("/v1/notifications:markAllRead", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: "{}",
      });
    } catch (error) {
      tell(messageOf(error), "bad");
    } finally {
      void client.invalidateQueries({ queryKey: ["list", "notifications"] });
    }
  };

  return (
    <Page
      title={t("page.notifications")}
      note={
        <p className="faint" role="status">
          {pages.data ? t("notifications.unread", { count: unread.length }) : " "}
        </p>
      }
      actions={
        <>
          <button type="button" className="button" onClick={() => setAsking(true)}>
            {t("notifications.preferences")}
          </button>
          {unread.length > 0 && tab !== "snoozed" && (
            <button type="button" className="button" onClick={() => void readAll()}>
              {t("notifications.readAll")}
            </button>
          )}
        </>
      }
    >
      <div className="list-bar">
        <Segmented
          label={t("page.notifications")}
          value={tab}
          options={Object.keys(TABS).map((key) => ({ key, title: t(`notifications.tab.${key}`) }))}
          onChange={(key) => go({ tab: key === "unread" ? "" : key })}
        />
        <span className="grow" />
        <select
          className="input"
          value={kind}
          aria-label={t("notifications.kind.label")}
          onChange={(event) => go({ kind: event.target.value })}
        >
          <option value="">{t("notifications.kind.all")}</option>
          {(kinds.data ?? []).map((row) => {
            const key = row.group[0] ?? "";
            return (
              <option key={key} value={key}>
                {t(`notifications.kind.${key}`, { defaultValue: key })}
              </option>
            );
          })}
        </select>
      </div>
      <section className="card">
        {pages.isError ? (
          <ErrorNote error={pages.error} onRetry={() => void pages.refetch()} />
        ) : pages.isPending ? (
          <div className="card-body">
            <Skeleton />
          </div>
        ) : records.length === 0 ? (
          <Empty title={t("notifications.none")} text={t("notifications.noneText")} />
        ) : (
          <ul className="inbox">
            {records.map((record) => (
              <Notice key={record.name} record={record} run={run} />
            ))}
          </ul>
        )}
        <MorePages pages={pages} className="link inbox-more" />
      </section>
      <Coming />
      {asking && <Preferences onClose={() => setAsking(false)} />}
    </Page>
  );
}

function Notice({
  record,
  run,
}: {
  record: RecordJson;
  run: (verb: string, record: RecordJson, body?: Json) => Promise<void>;
}) {
  const { t, language } = useText();
  const resource = useResource("notifications");
  const target = String(record["target"] ?? "");
  const time = String(record["createTime"] ?? "");
  const body = String(record["body"] ?? "");
  const count = Number(record["count"] ?? 1);
  const unread = !record["readTime"];
  const title = titleOf(record, resource, language);
  return (
    <li className={unread ? "inbox-unread" : ""}>
      <span className="grow">
        <span>
          {record["importance"] === "CRITICAL" && (
            <strong className="tag tag-bad">{t("notifications.critical")} </strong>
          )}
          {title}
          {count > 1 && <span className="faint"> ×{count}</span>}
        </span>
        {body !== "" && body !== title && <span className="faint inbox-body">{body}</span>}
        <span className="faint">
          <time dateTime={time} title={formatInstant(time, language)}>
            {formatRelative(time, language)}
          </time>
          {record["snoozeTime"] !== undefined && (
            <>
              {" "}
              · {t("notifications.until", { time: formatInstant(String(record["snoozeTime"]), language) })}
            </>
          )}
          {target.includes("/") && (
            <>
              {" "}
              · <Reference name={target} />
            </>
          )}
        </span>
      </span>
      {target.includes("/") && (
        <Link className="button" to={`/${target}`} onClick={() => void (unread && run("markRead", record))}>
          {t("action.open")}
        </Link>
      )}
      <MenuButton
        className="button"
        label={t("notifications.more", { title })}
        items={[
          ...(unread
            ? [{ key: "read", label: t("notifications.read"), run: () => void run("markRead", record) }]
            : []),
          ...later().map(({ key, until }) => ({
            key,
            label: t(`notifications.${key}`),
            run: () => void run("snooze", record, { until }),
          })),
          ...(record["archiveTime"]
            ? []
            : [
                {
                  key: "archive",
                  label: t("notifications.archive"),
                  apart: true,
                  run: () => void run("archive", record),
                },
              ]),
        ]}
      >
        …
      </MenuButton>
    </li>
  );
}

/** In an hour, or tomorrow morning by the person's own clock. */
function later(): { key: string; until: string }[] {
  const morning = new Date();
  morning.setDate(morning.getDate() + 1);
  morning.setHours(MORNING, 0, 0, 0);
  return [
    { key: "hour", until: new Date(Date.now() + HOUR_MS).toISOString() },
    { key: "tomorrow", until: morning.toISOString() },
  ];
}

/** What the person is going to be reminded of. */
function Coming() {
  const { t, language } = useText();
  const found = useQuery({
    queryKey: ["list", "notifications", "preview"],
    queryFn: async () =>
      (
        (await (
          await request("/v1/notifications:preview?days=7")
        ).json()) as Schema<"workspace.PreviewRemindersResponse">
      ).coming ?? [],
  });
  if (!found.data?.length) return null;
  return (
    <section className="card card-body">
      <h2>{t("notifications.coming")}</h2>
      <ul className="plain">
        {found.data.map((one) => (
          <li key={`${one.target} ${one.time}`}>
            <time dateTime={one.time}>{formatInstant(one.time ?? "", language)}</time>{" "}
            <Link to={`/${one.target}`}>{one.title}</Link>
          </li>
        ))}
      </ul>
    </section>
  );
}
