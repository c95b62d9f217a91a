import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { fieldsNamed } from "@/kit/columns";
import { formatDate, type DateJson } from "@/kit/dates";
import { FieldValue } from "@/kit/field-value";
import { quote } from "@/kit/filter";
import { gotQuery } from "@/kit/got";
import { formatShort, type Money } from "@/kit/money";
import { PagedTable, type Column } from "@/kit/plain-table";
import { pagesQuery, useResource } from "@/kit/queries";
import { Empty } from "@/kit/states";

type Accuracy = Schema<"sales.GetForecastAccuracyResponse">;

const PAGE = 50;

/** What was foretold week by week, and how near it came. */
export function Snapshots({ department }: { department: string }) {
  const { t, language } = useText();
  const pages = useInfiniteQuery(
    pagesQuery("forecasts", {
      filter: department ? `node = ${quote(department)}` : "",
      orderBy: "weekDate desc",
      pageSize: PAGE,
    }),
  );
  const fields = fieldsNamed(useResource("forecasts").fields, ["node", "owner", "state"]);
  const [node, owner, state] = fields;
  const columns: Record<string, Column<RecordJson>["cell"]> = {
    month: (record) => <Link to={`/${record.name}`}>{String(record["month"])}</Link>,
    week: (record) => formatDate(record["weekDate"] as DateJson, language),
    who: (record) => {
      const field = record["node"] ? node : owner;
      return field && <FieldValue field={field} value={record[field.name]} />;
    },
    state: (record) => state && <FieldValue field={state} value={record["state"]} />,
    expected: (record) => {
      const sums = new Map<string, number>();
      for (const { weighted } of (record["figures"] as { weighted?: Money }[] | undefined) ?? [])
        if (weighted)
          sums.set(weighted.currencyCode, (sums.get(weighted.currencyCode) ?? 0) + Number(weighted.amount));
      return (
        [...sums].map(([code, amount]) => formatShort(String(amount), code, language)).join(" + ") || "—"
      );
    },
    accuracy: (record) => <AccuracyOf forecast={record.name} />,
  };
  return (
    <section className="card card-body">
      <PagedTable
        caption={t("forecast.history")}
        pages={pages}
        lines={6}
        none={<Empty title={t("forecast.noHistory")} text={t("forecast.noHistoryText")} />}
        stacked
        columns={Object.entries(columns).map(([key, cell]) => ({
          key,
          title: t(`forecast.column.${key}`),
          row: key === "month",
          cell,
        }))}
      />
    </section>
  );
}

function AccuracyOf({ forecast }: { forecast: string }) {
  const accuracy = useQuery({
    ...gotQuery<Accuracy>(["record", forecast, "accuracy"], `/v1/${forecast}:accuracy`),
    retry: false,
  }).data;
  return (
    (accuracy?.rows ?? [])
      .filter((row) => row.percent)
      .map((row) => `${row.percent} %`)
      .join(" · ") || "—"
  );
}
