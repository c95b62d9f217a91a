import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Link } from "react-router";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { FieldValue } from "@/kit/field-value";
import { gotQuery } from "@/kit/got";
import { formatShort, type Money } from "@/kit/money";
import { PlainTable } from "@/kit/plain-table";
import { useResource } from "@/kit/queries";
import { ErrorNote, Skeleton } from "@/kit/states";

type Group = Schema<"customer.AccountHierarchy">;
type Unit = Schema<"customer.AccountHierarchy.Unit">;

const INDENT_PX = 20;

const FIGURES: Record<string, (unit: Unit) => ReactNode> = {
  revenue: (unit) => <Amounts amounts={unit.revenue} />,
  pipeline: (unit) => <Amounts amounts={unit.pipeline} />,
  tickets: (unit) => unit.openTickets ?? 0,
  credit: (unit) => <Amounts amounts={unit.creditUsed} />,
};

/** The whole group as a tree, with the business of each unit side by side; each counts once in the sum. */
export function Hierarchy({ account }: { account: string }) {
  const { t } = useText();
  const kind = useResource("accountRelations").fields.find(({ name }) => name === "kind");
  const group = useQuery(gotQuery<Group>(["record", account, "hierarchy"], `/v1/${account}:hierarchy`));
  if (group.isError) return <ErrorNote error={group.error} onRetry={() => void group.refetch()} />;
  if (group.isPending) return <Skeleton lines={5} />;
  const { units = [], total } = group.data;
  if (units.length < 2 && !group.data.notShown) return null;
  return (
    <section className="card">
      <div className="card-head">
        <h2>{t("hierarchy.title")}</h2>
        {group.data.notShownText && <span className="faint">{group.data.notShownText}</span>}
      </div>
      <div className="card-body">
        <PlainTable
          caption={t("hierarchy.title")}
          rows={units}
          keyOf={(unit) => `${unit.account} ${unit.relation}`}
          rowProps={(unit) => ({ "aria-current": unit.account === account || undefined })}
          columns={[
            {
              key: "unit",
              title: t("hierarchy.unit"),
              row: true,
              cell: (unit) => (
                <span style={{ paddingLeft: (unit.level ?? 0) * INDENT_PX }}>
                  {(unit.level ?? 0) > 0 && <span aria-hidden="true">└ </span>}
                  {unit.account === account ? (
                    <strong>{unit.displayName}</strong>
                  ) : (
                    <Link to={`/${unit.account}`}>{unit.displayName}</Link>
                  )}{" "}
                  {unit.unserved && <span className="tag tag-warn">{t("hierarchy.unserved")}</span>}
                </span>
              ),
              total: total && t("form.total"),
            },
            {
              key: "relation",
              title: t("hierarchy.relation"),
              cell: (unit) => (
                <>
                  {kind && unit.kind && <FieldValue field={kind} value={unit.kind} />}
                  {unit.share && ` ${Number(unit.share)} %`}
                </>
              ),
            },
            ...Object.entries(FIGURES).map(([key, figure]) => ({
              key,
              title: t(`hierarchy.${key}`),
              number: true,
              cell: figure,
              total: total && figure(total),
            })),
          ]}
        />
      </div>
    </section>
  );
}

function Amounts({ amounts = [] }: { amounts?: Partial<Money>[] | undefined }) {
  const { language } = useText();
  return (
    <>
      {amounts
        .map(({ amount = "0", currencyCode = "CNY" }) => formatShort(amount, currencyCode, language))
        .join(" + ") || "—"}
    </>
  );
}
