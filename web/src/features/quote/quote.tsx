import { useQuery } from "@tanstack/react-query";
import { Select } from "antd";
import { useState } from "react";
import { request, type RecordJson } from "@/api/client";
import type { Field, Resource } from "@/api/catalogue";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { Reference } from "@/kit/field-value";
import { formatMoney } from "@/kit/money";
import { quote as quoted } from "@/kit/filter";
import { PlainTable } from "@/kit/plain-table";
import { firstPageQuery, recordQuery, useResource, useSession } from "@/kit/queries";
import { camel } from "@/kit/form-model";
import { GenericRecord } from "@/kit/generic-record";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";
import { BuyerLink } from "./link";
import { LastPrices } from "./last-prices";
import { PriceTable, type Quote } from "./price-table";

type Compared = Schema<"sales.CompareQuoteResponse">;
type Difference = Schema<"sales.CompareQuoteResponse.Field">;

/** A quote with its other versions side by side. */
export function QuotePage({ name }: { name: string }) {
  const { t } = useText();
  const session = useSession();
  const resource = useResource("quotes");
  return (
    <GenericRecord
      resource={resource}
      name={name}
      more={(record) => [
        {
          key: "prices",
          label: t("price.tab"),
          content: <Prices quote={record as unknown as Quote} />,
        },
        ...(["APPROVED", "SENT"].includes(String(record["state"])) && may(session, "sales.quotes.send")
          ? [{ key: "link", label: t("buyer.link"), content: <BuyerLink quote={name} /> }]
          : []),
        {
          key: "versions",
          label: t("quote.versions"),
          content: <Versions resource={resource} record={record} />,
        },
      ]}
    />
  );
}

/** All that whoever decides on a price looks at: the chain, the margin, what was paid before, what others ask. */
function Prices({ quote }: { quote: Quote }) {
  const products = [...new Set((quote.lines ?? []).flatMap(({ product }) => (product ? [product] : [])))];
  return (
    <section className="card card-body stack">
      <PriceTable quote={quote} />
      <LastPrices account={quote.account ?? ""} products={products} currency={quote.currency ?? ""} />
      {quote.opportunity && <Rivals opportunity={quote.opportunity} />}
    </section>
  );
}

/** What competitors ask in the same deal, as far as one may see it. */
function Rivals({ opportunity }: { opportunity: string }) {
  const { t, language } = useText();
  const deal = useQuery({ ...recordQuery(opportunity), retry: false }).data as
    Schema<"sales.Opportunity"> | undefined;
  const priced = (deal?.competitors ?? []).filter(({ price }) => price?.amount);
  if (priced.length === 0) return null;
  return (
    <ul className="stack-small" aria-label={t("price.rivals")}>
      {priced.map(({ competitor, price }) => (
        <li key={competitor} className="faint">
          <Reference name={competitor ?? ""} link={false} />
          {" · "}
          {t("price.rival", { price: formatMoney(price, language) })}
        </li>
      ))}
    </ul>
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
