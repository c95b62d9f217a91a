import { useQuery } from "@tanstack/react-query";
import { Select } from "antd";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { useAddress } from "@/kit/address";
import { Bars } from "@/kit/bars";
import { formatDate } from "@/kit/dates";
import { Figure } from "@/kit/figure";
import { gotQuery } from "@/kit/got";
import { formatMoney, formatShort, type Money } from "@/kit/money";
import { Page } from "@/kit/page";
import { PlainTable } from "@/kit/plain-table";
import { ReferencePicker } from "@/kit/reference-picker";
import { Segmented } from "@/kit/segmented";
import { Empty, Loaded } from "@/kit/states";
import { Snapshots } from "./snapshots";

type Found = Schema<"sales.EvaluateForecastResponse">;
type Bucket = Schema<"sales.EvaluateForecastResponse.Bucket">;

const ORDER = ["CLOSED", "COMMIT", "BEST_CASE", "PIPELINE", "SLIPPED", "EARLIER", "LATER", "UNDATED"];
const PERIODS = ["month", "quarter", "next", "year"] as const;

/** The first and last day of a period that begins with today's. */
function spanOf(period: string, now = new Date()): [string, string] {
  const [year, month] = [now.getFullYear(), now.getMonth()];
  const first = period === "year" ? 0 : period === "month" ? month : month - (month % 3);
  const start = new Date(year, first + (period === "next" ? 3 : 0), 1);
  const months = period === "year" ? 12 : period === "month" ? 1 : 3;
  const end = new Date(start.getFullYear(), start.getMonth() + months, 0);
  const iso = (day: Date) =>
    `${day.getFullYear()}-${String(day.getMonth() + 1).padStart(2, "0")}-${String(day.getDate()).padStart(2, "0")}`;
  return [iso(start), iso(end)];
}

const asQuery = (field: string, iso: string) => {
  const [year = "", month = "", day = ""] = iso.split("-");
  return `${field}.year=${Number(year)}&${field}.month=${Number(month)}&${field}.day=${Number(day)}`;
};

/** What the open deals are worth in a period by category, and what was foretold before. */
export function ForecastPage() {
  const { t, language } = useText();
  const [params, go] = useAddress();
  const period = params.get("period") ?? "quarter";
  const department = params.get("department") ?? "";
  const history = params.get("tab") === "history";
  const [from, to] = spanOf(period);
  const path = [
    `/v1/opportunities:forecast?${asQuery("fromDate", from)}&${asQuery("toDate", to)}`,
    department && `department=${encodeURIComponent(department)}`,
    "currency=CNY",
  ]
    .filter(Boolean)
    .join("&");
  const found = useQuery(gotQuery<Found>(["aggregate", "opportunities", "forecast", path], path));

  return (
    <Page
      title={t("page.forecast")}
      note={
        <p className="faint">
          {formatDate(from, language)} – {formatDate(to, language)}
        </p>
      }
      actions={
        <Segmented
          label={t("page.forecast")}
          value={history ? "history" : ""}
          options={[
            { key: "", title: t("forecast.now") },
            { key: "history", title: t("forecast.history") },
          ]}
          onChange={(tab) => go({ tab })}
        />
      }
    >
      <div className="list-bar">
        {!history && (
          <Select
            aria-label={t("forecast.period")}
            value={period}
            style={{ minWidth: 130 }}
            options={PERIODS.map((value) => ({ value, label: t(`forecast.periods.${value}`) }))}
            onChange={(value) => go({ period: value })}
          />
        )}
        <label className="row">
          <span className="faint">{t("forecast.department")}</span>
          <span className="calendar-people">
            <ReferencePicker
              id="forecast-department"
              collection="departments"
              value={department || undefined}
              hint={t("forecast.whole")}
              onChange={(value) => go({ department: typeof value === "string" ? value : "" })}
            />
          </span>
        </label>
      </div>
      {history ? (
        <Snapshots department={department} />
      ) : (
        <Loaded query={found} lines={8}>
          {(forecast) =>
            (forecast.buckets ?? []).length === 0 ? (
              <section className="card">
                <Empty title={t("forecast.none")} text={t("forecast.noneText")} />
              </section>
            ) : (
              <>
                <div className="figures">
                  <Sum label={t("forecast.amount")} money={forecast.convertedAmount} />
                  <Sum label={t("forecast.weighted")} money={forecast.convertedWeighted} />
                </div>
                <p className="faint sea-note">
                  {forecast.rateDate && t("forecast.rates", { day: formatDate(forecast.rateDate, language) })}{" "}
                  {(forecast.unconverted ?? 0) > 0 &&
                    t("forecast.unconverted", { count: forecast.unconverted ?? 0 })}
                </p>
                <Buckets buckets={forecast.buckets ?? []} />
              </>
            )
          }
        </Loaded>
      )}
    </Page>
  );
}

function Sum({ label, money }: { label: string; money: Partial<Money> | undefined }) {
  const { language } = useText();
  return (
    <Figure label={label} exact={formatMoney(money, language)}>
      {money?.amount ? formatShort(money.amount, money.currencyCode ?? "CNY", language) : "—"}
    </Figure>
  );
}

function Buckets({ buckets }: { buckets: Bucket[] }) {
  const { t, language } = useText();
  const currencies = [...new Set(buckets.map((bucket) => bucket.currency ?? "CNY"))];
  const name = (category: string | undefined) =>
    t(`forecast.category.${category ?? ""}`, { defaultValue: category ?? "" });
  return (
    <div className="stack">
      {currencies.map((currency) => {
        const own = buckets
          .filter((bucket) => (bucket.currency ?? "CNY") === currency)
          .toSorted((a, b) => ORDER.indexOf(a.category ?? "") - ORDER.indexOf(b.category ?? ""));
        return (
          <section key={currency} className="card card-body" aria-label={currency}>
            <h2>{currency}</h2>
            <Bars
              title={t("page.forecast")}
              series={[t("forecast.weighted"), t("forecast.rest")]}
              bars={own.map((bucket) => ({
                key: bucket.category ?? "",
                label: name(bucket.category),
                values: [
                  Number(bucket.weighted?.amount ?? 0),
                  Number(bucket.amount?.amount ?? 0) - Number(bucket.weighted?.amount ?? 0),
                ],
              }))}
              format={(value) => formatShort(String(value), currency, language)}
            />
            <PlainTable
              caption={`${t("page.forecast")} ${currency}`}
              rows={own}
              keyOf={({ category }) => category ?? ""}
              columns={[
                {
                  key: "kind",
                  title: t("forecast.kind"),
                  row: true,
                  cell: ({ category }) => name(category),
                },
                { key: "deals", title: t("forecast.deals"), number: true, cell: ({ deals }) => deals ?? 0 },
                {
                  key: "amount",
                  title: t("forecast.amount"),
                  number: true,
                  cell: ({ amount }) => formatMoney(amount, language),
                },
                {
                  key: "weighted",
                  title: t("forecast.weighted"),
                  number: true,
                  cell: ({ weighted }) => formatMoney(weighted, language),
                },
              ]}
            />
          </section>
        );
      })}
    </div>
  );
}
