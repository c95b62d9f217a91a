import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { FieldValue } from "@/kit/field-value";
import { gotQuery } from "@/kit/got";
import { formatShort, type Money } from "@/kit/money";
import { useResource } from "@/kit/queries";
import { ScrollBox } from "@/kit/scroll-box";
import { ErrorNote, Skeleton } from "@/kit/states";

type Group = Schema<"customer.AccountHierarchy">;
type Unit = Schema<"customer.AccountHierarchy.Unit">;

const INDENT_PX = 20;

/** The whole group as a tree, with the business of each unit side by side; each counts once in the sum. */
export function Hierarchy({ account }: { account: string }) {
  const { t } = useText();
  const kind = useResource("accountRelations").fields.find(({ name }) => name === "kind");
  const group = useQuery(gotQuery<Group>(["record", account, "hierarchy"], `/v1/${account}:hierarchy`));
  if (group.isError) return <ErrorNote error={group.error} onRetry={() => void group.refetch()} />;
  if (group.isPending) return <Skeleton lines={5} />;
  const units = group.data.units ?? [];
  if (units.length < 2 && !group.data.notShown) return null;
  return (
    <section className="card">
      <div className="card-head">
        <h2>{t("hierarchy.title")}</h2>
        {group.data.notShownText && <span className="faint">{group.data.notShownText}</span>}
      </div>
      <ScrollBox className="card-body" label={t("hierarchy.title")}>
        <table className="plain">
          <caption className="visually-hidden">{t("hierarchy.title")}</caption>
          <thead>
            <tr>
              <th scope="col">{t("hierarchy.unit")}</th>
              <th scope="col">{t("hierarchy.relation")}</th>
              {["revenue", "pipeline", "tickets", "credit"].map((key) => (
                <th key={key} scope="col" className="number">
                  {t(`hierarchy.${key}`)}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {units.map((unit) => (
              <tr
                key={`${unit.account} ${unit.relation}`}
                aria-current={unit.account === account || undefined}
              >
                <th scope="row" style={{ paddingLeft: (unit.level ?? 0) * INDENT_PX }}>
                  {(unit.level ?? 0) > 0 && <span aria-hidden="true">└ </span>}
                  {unit.account === account ? (
                    <strong>{unit.displayName}</strong>
                  ) : (
                    <Link to={`/${unit.account}`}>{unit.displayName}</Link>
                  )}{" "}
                  {unit.unserved && <span className="tag tag-warn">{t("hierarchy.unserved")}</span>}
                </th>
                <td>
                  {kind && unit.kind && <FieldValue field={kind} value={unit.kind} />}
                  {unit.share && ` ${Number(unit.share)} %`}
                </td>
                <Figures unit={unit} />
              </tr>
            ))}
          </tbody>
          {group.data.total && (
            <tfoot>
              <tr>
                <th scope="row" colSpan={2}>
                  {t("form.total")}
                </th>
                <Figures unit={group.data.total} />
              </tr>
            </tfoot>
          )}
        </table>
      </ScrollBox>
    </section>
  );
}

function Figures({ unit }: { unit: Unit }) {
  return (
    <>
      <td className="number">
        <Amounts amounts={unit.revenue} />
      </td>
      <td className="number">
        <Amounts amounts={unit.pipeline} />
      </td>
      <td className="number">{unit.openTickets ?? 0}</td>
      <td className="number">
        <Amounts amounts={unit.creditUsed} />
      </td>
    </>
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
