import { useQuery } from "@tanstack/react-query";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { formatInstant } from "@/kit/dates";
import { FieldValue, Reference } from "@/kit/field-value";
import { gotQuery } from "@/kit/got";
import { useResource } from "@/kit/queries";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";

type History = Schema<"customer.ListOwnerHistoryResponse">;

/** Everybody whose customer it was: from whom to whom, how and why. */
export function Owners({ account }: { account: string }) {
  const { t, language } = useText();
  const kinds = useResource("poolClaims").fields.find((field) => field.name === "kind");
  const history = useQuery(gotQuery<History>(["record", account, "owners"], `/v1/${account}:ownerHistory`));
  if (history.isError) return <ErrorNote error={history.error} onRetry={() => void history.refetch()} />;
  if (history.isPending) return <Skeleton lines={4} />;
  const changes = history.data.changes ?? [];
  return (
    <section className="card">
      <div className="card-head">
        <h2>{t("account.owners")}</h2>
      </div>
      <div className="card-body">
        {changes.length === 0 && <Empty title={t("account.noOwners")} />}
        <ol className="feed">
          {changes.map((change) => (
            <li key={change.name}>
              <span className="feed-dot" />
              <div>
                <p>
                  {kinds && <FieldValue field={{ ...kinds, name: "state" }} value={change.kind} />}{" "}
                  {change.from && <Reference name={change.from} />}
                  {change.from && " → "}
                  {change.employee ? (
                    <Reference name={change.employee} />
                  ) : (
                    change.pool && <Reference name={change.pool} />
                  )}
                </p>
                <p className="faint">
                  {[
                    formatInstant(change.time, language),
                    change.reason,
                    change.clause && t("sea.byClause", { clause: change.clause }),
                    change.evidence,
                  ]
                    .filter(Boolean)
                    .join(" · ")}
                </p>
              </div>
            </li>
          ))}
        </ol>
      </div>
    </section>
  );
}
