import { useEffect, useRef } from "react";
import { Link } from "react-router";
import type { Field, Resource } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { FieldValue, Title } from "@/kit/field-value";
import { isBlank } from "@/kit/patch";

interface Props {
  resource: Resource;
  columns: Field[];
  records: RecordJson[];
  hasMore: boolean;
  loading: boolean;
  onMore: () => void;
}

const SHOWN = 5;

/** The list on a phone: one card per record with its first filled-in columns. */
export function Cards({ resource, columns, records, hasMore, loading, onMore }: Props) {
  const { t, label } = useText();
  const end = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const watcher = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting) && hasMore && !loading) onMore();
    });
    if (end.current) watcher.observe(end.current);
    return () => watcher.disconnect();
  }, [hasMore, loading, onMore]);
  const state = columns.find((column) => column.name === "state");
  return (
    <>
      <ul className="cards">
        {records.map((record) => (
          <li key={record.name}>
            <Link to={`/${record.name}`} className="card list-card">
              <span className="list-card-head">
                <strong>
                  <Title record={record} resource={resource} />
                </strong>
                {state && !isBlank(record["state"]) && (
                  <FieldValue field={state} value={record["state"]} links={false} />
                )}
              </span>
              <dl className="pairs">
                {columns
                  .filter(
                    (column) =>
                      column.name !== resource.titleField &&
                      column !== state &&
                      !isBlank(record[column.name]),
                  )
                  .slice(0, SHOWN)
                  .map((column) => (
                    <div key={column.name}>
                      <dt>{label(column.label)}</dt>
                      <dd>
                        <FieldValue field={column} value={record[column.name]} links={false} />
                      </dd>
                    </div>
                  ))}
              </dl>
            </Link>
          </li>
        ))}
      </ul>
      <div ref={end} className="grid-more">
        {loading ? t("state.loading") : ""}
      </div>
    </>
  );
}
