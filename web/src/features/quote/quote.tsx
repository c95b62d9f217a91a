import { useQuery } from "@tanstack/react-query";
import { Select } from "antd";
import { useState } from "react";
import { request, type RecordJson } from "@/api/client";
import type { Field, Resource } from "@/api/catalogue";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { formatMoney } from "@/kit/money";
import { quote as quoted } from "@/kit/filter";
import { PlainTable } from "@/kit/plain-table";
import { firstPageQuery, useResource } from "@/kit/queries";
import { camel } from "@/kit/form-model";
import { GenericRecord } from "@/kit/generic-record";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";
import { PriceTable, type Quote } from "./price-table";

type Compared = Schema<"sales.CompareQuoteResponse">;
type Difference = Schema<"sales.CompareQuoteResponse.Field">;

/** A quote with its other versions side by side. */
export function QuotePage({ name }: { name: string }) {
  const { t } = useText();
  const resource = useResource("quotes");
  return (
    <GenericRecord
      resource={resource}
      name={name}
      more={(record) => [
        {
          key: "prices",
          label: t("price.tab"),
          content: (
            <section className="card card-body">
              <PriceTable quote={record as unknown as Quote} />
            </section>
          ),
        },
        {
          key: "versions",
          label: t("quote.versions"),
          content: <Versions resource={resource} record={record} />,
        },
      ]}
    />
  );
}

function Versions({ resource, record }: { resource: Resource; record: RecordJson }) {
  const { t, language } = useText();
  const root = String(record["root"] || record.name);
  const found = useQuery(
    firstPageQuery("quotes", {
      filter: `root = ${quoted(root)} OR name = ${quoted(root)}`,
      orderBy: "versionNumber desc",
      pageSize: 50,
    }),
  );
  const [chosen, setChosen] = useState<string>();
  if (found.isError) return <ErrorNote error={found.error} onRetry={() => void found.refetch()} />;
  if (found.isPending) return <Skeleton lines={4} />;
  const others = found.data.records.filter(({ name }) => name !== record.name);
  if (others.length === 0)
    return (
      <section className="card">
        <Empty title={t("quote.onlyOne")} text={t("quote.onlyOneText")} />
      </section>
    );
  const other = chosen ?? others[0]?.name ?? "";
  const state = resource.fields.find(({ name }) => name === "state");
  return (
    <section className="card">
      <div className="card-head">
        <label htmlFor="quote-other">{t("quote.compareWith")}</label>
        <Select
          id="quote-other"
          value={other}
          style={{ minWidth: 280 }}
          options={others.map((version) => ({
            value: version.name,
            label: [
              t("quote.version", { number: version["versionNumber"] }),
              formatMoney(version["grossTotal"] as { currencyCode: string; amount: string }, language),
              state?.choices.find(({ value }) => value === version["state"])?.label[
                language === "en" ? "en" : "zh"
              ],
            ]
              .filter(Boolean)
              .join(" · "),
          }))}
          onChange={setChosen}
        />
      </div>
      <div className="card-body">
        <Comparison resource={resource} name={record.name} other={other} />
      </div>
    </section>
  );
}

function Comparison({ resource, name, other }: { resource: Resource; name: string; other: string }) {
  const { t, label } = useText();
  const compared = useQuery({
    queryKey: ["record", name, "compare", other],
    queryFn: async () =>
      (await (await request(`/v1/${name}:compare?other=${encodeURIComponent(other)}`)).json()) as Compared,
  });
  if (compared.isError) return <ErrorNote error={compared.error} onRetry={() => void compared.refetch()} />;
  if (compared.isPending) return <Skeleton lines={4} />;
  const lines = resource.fields.find((field) => field.name === "lines")?.fields ?? [];
  const said = (path: string, among = resource.fields) => {
    const field = among.find((candidate) => candidate.name === camel(path));
    return field ? label(field.label) : path;
  };
  const row = (where: string, kind: string, among: Field[], field?: Difference) => ({
    where,
    kind,
    among,
    field,
  });
  const rows = [
    ...(compared.data.fields ?? []).map((field) => row("", "", resource.fields, field)),
    ...(compared.data.lines ?? []).flatMap((line) => {
      const [where, kind, fields] = [line.description ?? "", line.kind ?? "CHANGED", line.fields ?? []];
      return fields.length > 0
        ? fields.map((field) => row(where, kind, lines, field))
        : [row(where, kind, lines)];
    }),
  ];
  if (rows.length === 0) return <p className="faint">{t("quote.same")}</p>;
  return (
    <PlainTable
      caption={t("quote.versions")}
      rows={rows}
      keyOf={(_, index) => index}
      columns={[
        { key: "line", title: t("quote.line"), cell: ({ where }) => where || t("quote.whole") },
        {
          key: "field",
          title: t("quote.field"),
          cell: ({ field, among, kind }) =>
            field ? said(field.field ?? "", among) : t(`quote.kind.${kind}`),
        },
        { key: "before", title: t("quote.before"), cell: ({ field }) => field?.before },
        { key: "after", title: t("quote.after"), cell: ({ field }) => field?.after },
      ]}
    />
  );
}
