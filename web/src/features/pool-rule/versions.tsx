import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { splitName, type RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { formatInstant } from "@/kit/dates";
import { FieldValue } from "@/kit/field-value";
import { quote } from "@/kit/filter";
import { firstPageQuery, titleOf, useResource } from "@/kit/queries";
import { ErrorNote, Skeleton } from "@/kit/states";

/** Every version of the rules of this pool, newest first; an old one comes back as a new one. */
export function Versions({ rule }: { rule: RecordJson }) {
  const { t, language } = useText();
  const { collection } = splitName(rule.name);
  const resource = useResource(collection);
  const state = resource.fields.find(({ name }) => name === "state");
  const pool = String(rule["pool"] ?? "");
  const found = useQuery(
    firstPageQuery(collection, {
      filter: pool ? `pool = ${quote(pool)}` : "NOT pool:*",
      orderBy: "revision desc",
      pageSize: 50,
    }),
  );
  if (found.isError) return <ErrorNote error={found.error} onRetry={() => void found.refetch()} />;
  if (found.isPending) return <Skeleton lines={4} />;
  return (
    <section className="card card-body">
      <ol className="feed">
        {found.data.records.map((version) => (
          <li key={version.name}>
            <span className={`feed-dot ${version["state"] === "ACTIVE" ? "" : "feed-dot-open"}`} />
            <div>
              <p>
                <Link to={`/${version.name}`} aria-current={version.name === rule.name ? "page" : undefined}>
                  {t("quote.version", { number: version["revision"] ?? 0 })}{" "}
                  {titleOf(version, resource, language)}
                </Link>{" "}
                {state && <FieldValue field={state} value={version["state"]} />}
              </p>
              <p className="faint">
                {[version["effectiveTime"], version["retireTime"]]
                  .map((time) => (time ? formatInstant(String(time), language) : "…"))
                  .join(" – ")}
              </p>
            </div>
          </li>
        ))}
      </ol>
      {resource.verbs.some(({ name }) => name === "rollback") && (
        <p className="faint">{t("poolRule.rollbackText")}</p>
      )}
    </section>
  );
}
