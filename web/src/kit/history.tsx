import { useInfiniteQuery } from "@tanstack/react-query";
import type { Resource } from "@/api/catalogue";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { formatInstant, formatRelative } from "./dates";
import { FieldValue, Reference } from "./field-value";
import { quote } from "./filter";
import { same } from "./patch";
import { pagesQuery, useCatalogue, useSession } from "./queries";
import { Empty, ErrorNote, Skeleton } from "./states";
import { MorePages } from "./more-pages";

const PAGE = 20;
const NOISE = new Set(["etag", "updateTime", "name", "createTime", "creator", "searchText"]);

/** Who changed what when, from the audit entries, in sentences: a card for a tab of the record. */
export function History({ resource, name }: { resource: Resource; name: string }) {
  return (
    <section className="card">
      <div className="card-body history-body">
        <Entries resource={resource} name={name} />
      </div>
    </section>
  );
}

function Entries({ resource, name }: { resource: Resource; name: string }) {
  const { t, language, label } = useText();
  const audit = useCatalogue().find("auditEntries");
  const session = useSession();
  const readable = audit !== undefined && may(session, audit.permissions.read);
  const pages = useInfiniteQuery({
    ...pagesQuery("auditEntries", {
      filter: `resource = ${quote(name)}`,
      orderBy: "time desc",
      pageSize: PAGE,
    }),
    enabled: readable,
  });
  if (!readable) return <Empty title={t("history.denied")} text={t("history.deniedText")} />;
  if (pages.isError) return <ErrorNote error={pages.error} onRetry={() => void pages.refetch()} />;
  if (pages.isPending) return <Skeleton />;
  const entries = pages.data.pages.flatMap((page) => page.records);
  if (entries.length === 0) return <Empty title={t("history.none")} />;

  return (
    <div className="stack">
      <ol className="feed">
        {entries.map((entry) => {
          const before = valuesOf(entry["before"]);
          const after = valuesOf(entry["after"]);
          const changed = Object.keys({ ...before, ...after }).filter(
            (field) => !NOISE.has(field) && !same(before[field], after[field]),
          );
          const action = String(entry["action"] ?? "");
          const time = String(entry["time"] ?? entry["createTime"] ?? "");
          return (
            <li key={entry.name}>
              <span className="feed-dot" aria-hidden="true" />
              <div>
                <p>
                  <strong>
                    <Reference name={String(entry["actor"] ?? "")} />
                  </strong>{" "}
                  {t(`history.${action}`, { defaultValue: action })}
                </p>
                {action !== "CREATED" && changed.length > 0 && (
                  <ul className="changes">
                    {changed.map((fieldName) => {
                      const field = resource.fields.find((candidate) => candidate.name === fieldName);
                      if (!field) return null;
                      return (
                        <li key={fieldName}>
                          <span className="faint">{label(field.label)}</span>{" "}
                          <FieldValue field={field} value={before[fieldName]} links={false} />
                          <span aria-label={t("history.became")}> → </span>
                          <FieldValue field={field} value={after[fieldName]} />
                        </li>
                      );
                    })}
                  </ul>
                )}
                <time className="faint" dateTime={time} title={formatInstant(time, language)}>
                  {formatRelative(time, language)} · {formatInstant(time, language)}
                </time>
              </div>
            </li>
          );
        })}
      </ol>
      <MorePages pages={pages} />
    </div>
  );
}

/** The audit keeps what was as JSON text, so that its hash covers it exactly. */
export function valuesOf(text: unknown): Record<string, unknown> {
  if (typeof text !== "string" || text === "") return {};
  return JSON.parse(text) as Record<string, unknown>;
}
