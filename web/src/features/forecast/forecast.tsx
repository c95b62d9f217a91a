import { useQuery } from "@tanstack/react-query";
import { Select } from "antd";
import { useSearchParams } from "react-router";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { Bars } from "@/kit/bars";
import { formatDate } from "@/kit/dates";
import { gotQuery } from "@/kit/got";
import { formatMoney, formatShort, type Money } from "@/kit/money";
import { Page } from "@/kit/page";
import { ReferencePicker } from "@/kit/reference-picker";
import { ScrollBox } from "@/kit/scroll-box";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";
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
  const [params, setParams] = useSearchParams();
  const period = params.get("period") ?? "quarter";
  const department = params.get("department") ?? "";
  const history = params.get("tab") === "history";
  const set = (key: string, value: string) =>
    setParams((before) => {
      const next = new URLSearchParams(before);
      if (value) next.set(key, value);
      else next.delete(key);
      return next;
    });
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
        <span className="segmented" role="group" aria-label={t("page.forecast")}>
          {["", "history"].map((tab) => (
            <button
              key={tab}
              type="button"
              aria-pressed={history === (tab === "history")}
              onClick={() => set("tab", tab)}
            >
              {t(tab ? "forecast.history" : "forecast.now")}
            </button>
          ))}
        </span>
      }
    >
      <div className="list-bar">
        {!history && (
          <Select
            aria-label={t("forecast.period")}
            value={period}
            style={{ minWidth: 130 }}
            options={PERIODS.map((value) => ({ value, label: t(`forecast.periods.${value}`) }))}
            onChange={(value) => set("period", value)}
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
              onChange={(value) => set("department", typeof value === "string" ? value : "")}
            />
          </span>
        </label>
      </div>
      {history ? (
        <Snapshots department={department} />
      ) : found.isError ? (
        <ErrorNote error={found.error} onRetry={() => void found.refetch()} />
      ) : found.isPending ? (
        <Skeleton lines={8} />
      ) : (found.data.buckets ?? []).length === 0 ? (
        <section className="card">
          <Empty title={t("forecast.none")} text={t("forecast.noneText")} />
        </section>
      ) : (
        <>
          <div className="figures">
            <Sum label={t("forecast.amount")} money={found.data.convertedAmount} />
            <Sum label={t("forecast.weighted")} money={found.data.convertedWeighted} />
          </div>
          <p className="faint sea-note">
            {found.data.rateDate && t("forecast.rates", { day: formatDate(found.data.rateDate, language) })}{" "}
            {(found.data.unconverted ?? 0) > 0 &&
              t("forecast.unconverted", { count: found.data.unconverted ?? 0 })}
          </p>
          <Buckets buckets={found.data.buckets ?? []} />
        </>
      )}
    </Page>
  );
}

function Sum({ label, money }: { label: string; money: Partial<Money> | undefined }) {
  const { language } = useText();
  return (
    <div className="card figure">
      <span className="faint">{label}</span>
      <strong title={formatMoney(money, language)}>
        {money?.amount ? formatShort(money.amount, money.currencyCode ?? "CNY", language) : "—"}
      </strong>
    </div>
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
            <ScrollBox label={`${t("page.forecast")} ${currency}`}>
              <table className="plain">
                <caption className="visually-hidden">{t("page.forecast")}</caption>
                <thead>
                  <tr>
                    <th scope="col">{t("forecast.kind")}</th>
                    <th scope="col" className="number">
                      {t("forecast.deals")}
                    </th>
                    <th scope="col" className="number">
                      {t("forecast.amount")}
                    </th>
                    <th scope="col" className="number">
                      {t("forecast.weighted")}
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {own.map((bucket) => (
                    <tr key={bucket.category}>
                      <th scope="row">{name(bucket.category)}</th>
                      <td className="number">{bucket.deals ?? 0}</td>
                      <td className="number">{formatMoney(bucket.amount, language)}</td>
                      <td className="number">{formatMoney(bucket.weighted, language)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </ScrollBox>
          </section>
        );
      })}
    </div>
  );
}
