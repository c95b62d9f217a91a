import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "react-router";
import { act, update, type RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { formatInstant, formatRelative } from "@/kit/dates";
import { Reference } from "@/kit/field-value";
import { Page } from "@/kit/page";
import { pagesQuery, titleOf, useResource } from "@/kit/queries";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";

const PAGE = 30;

export function NotificationsPage() {
  const { t, language } = useText();
  const client = useQueryClient();
  const resource = useResource("notifications");
  const pages = useInfiniteQuery(pagesQuery("notifications", { orderBy: "createTime desc", pageSize: PAGE }));
  const records = pages.data?.pages.flatMap((page) => page.records) ?? [];
  const unread = records.filter((record) => !record["readTime"]);
  const readVerb = resource.verbs.find((verb) => verb.onRecord && /read/i.test(verb.name));

  const read = async (some: RecordJson[]) => {
    try {
      for (const record of some)
        await (readVerb
          ? act(record.name, readVerb.name, {}, record.etag)
          : update(record.name, { readTime: new Date().toISOString() }, record.etag));
    } catch (error) {
      tell(messageOf(error), "bad");
    } finally {
      void client.invalidateQueries({ queryKey: ["list", "notifications"] });
    }
  };
  const readable = readVerb !== undefined || resource.has.update;

  return (
    <Page
      title={t("page.notifications")}
      note={
        <p className="faint" role="status">
          {pages.data ? t("notifications.unread", { count: unread.length }) : " "}
        </p>
      }
      actions={
        readable && unread.length > 0 ? (
          <button type="button" className="button" onClick={() => void read(unread)}>
            {t("notifications.readAll")}
          </button>
        ) : null
      }
    >
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
            {records.map((record) => {
              const target = String(record["target"] ?? record["subject"] ?? record["ref"] ?? "");
              const time = String(record["createTime"] ?? "");
              return (
                <li key={record.name} className={record["readTime"] ? "" : "inbox-unread"}>
                  <span className="grow">
                    <span>{titleOf(record, resource, language)}</span>
                    <span className="faint">
                      <time dateTime={time} title={formatInstant(time, language)}>
                        {formatRelative(time, language)}
                      </time>
                      {target.includes("/") && (
                        <>
                          {" "}
                          · <Reference name={target} />
                        </>
                      )}
                    </span>
                  </span>
                  {target.includes("/") && (
                    <Link
                      className="button"
                      to={`/${target}`}
                      onClick={() => void (!record["readTime"] && readable && read([record]))}
                    >
                      {t("action.open")}
                    </Link>
                  )}
                  {!record["readTime"] && readable && (
                    <button type="button" className="link" onClick={() => void read([record])}>
                      {t("notifications.read")}
                    </button>
                  )}
                </li>
              );
            })}
          </ul>
        )}
        {pages.hasNextPage && (
          <button type="button" className="link inbox-more" onClick={() => void pages.fetchNextPage()}>
            {t("list.more")}
          </button>
        )}
      </section>
    </Page>
  );
}
