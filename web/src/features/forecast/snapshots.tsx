import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { formatDate, type DateJson } from "@/kit/dates";
import { FieldValue } from "@/kit/field-value";
import { quote } from "@/kit/filter";
import { gotQuery } from "@/kit/got";
import { formatShort, type Money } from "@/kit/money";
import { pagesQuery, useResource } from "@/kit/queries";
import { ScrollBox } from "@/kit/scroll-box";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";
import { MorePages } from "@/kit/more-pages";

type Accuracy = Schema<"sales.GetForecastAccuracyResponse">;

const PAGE = 50;

/** What was foretold week by week, and how near it came. */
export function Snapshots({ department }: { department: string }) {
  const { t } = useText();
  const pages = useInfiniteQuery(
    pagesQuery("forecasts", {
      filter: department ? `node = ${quote(department)}` : "",
      orderBy: "weekDate desc",
      pageSize: PAGE,
    }),
  );
  const records = pages.data?.pages.flatMap((page) => page.records) ?? [];
  if (pages.isError) return <ErrorNote error={pages.error} onRetry={() => void pages.refetch()} />;
  if (pages.isPending) return <Skeleton lines={6} />;
  if (records.length === 0)
    return (
      <section className="card">
        <Empty title={t("forecast.noHistory")} text={t("forecast.noHistoryText")} />
      </section>
    );
  return (
    <section className="card card-body">
      <ScrollBox label={t("forecast.history")} className="stacked">
        <table className="plain">
          <caption className="visually-hidden">{t("forecast.history")}</caption>
          <thead>
            <tr>
              {["month", "week", "who", "state", "expected", "accuracy"].map((key) => (
                <th key={key} scope="col">
                  {t(`forecast.column.${key}`)}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {records.map((record) => (
              <Row key={record.name} record={record} />
            ))}
          </tbody>
        </table>
      </ScrollBox>
      <MorePages pages={pages} />
    </section>
  );
}

function Row({ record }: { record: RecordJson }) {
  const { t, language } = useText();
  const fields = useResource("forecasts").fields;
  const field = (name: string) => fields.find((one) => one.name === name);
  const accuracy = useQuery({
    ...gotQuery<Accuracy>(["record", record.name, "accuracy"], `/v1/${record.name}:accuracy`),
    retry: false,
  }).data;
  const figures = (record["figures"] as { weighted?: Money }[] | undefined) ?? [];
  const sums = new Map<string, number>();
  for (const { weighted } of figures)
    if (weighted)
      sums.set(weighted.currencyCode, (sums.get(weighted.currencyCode) ?? 0) + Number(weighted.amount));
  const [node, owner, state] = [field("node"), field("owner"), field("state")];
  return (
    <tr>
      <th scope="row">
        <Link to={`/${record.name}`}>{String(record["month"])}</Link>
      </th>
      <td data-label={t("forecast.column.week")}>{formatDate(record["weekDate"] as DateJson, language)}</td>
      <td data-label={t("forecast.column.who")}>
        {record["node"]
          ? node && <FieldValue field={node} value={record["node"]} />
          : owner && <FieldValue field={owner} value={record["owner"]} />}
      </td>
      <td data-label={t("forecast.column.state")}>
        {state && <FieldValue field={state} value={record["state"]} />}
      </td>
      <td data-label={t("forecast.column.expected")}>
        {[...sums].map(([code, amount]) => formatShort(String(amount), code, language)).join(" + ") || "—"}
      </td>
      <td data-label={t("forecast.column.accuracy")}>
        {(accuracy?.rows ?? [])
          .filter((row) => row.percent)
          .map((row) => `${row.percent} %`)
          .join(" · ") || "—"}
      </td>
    </tr>
  );
}
