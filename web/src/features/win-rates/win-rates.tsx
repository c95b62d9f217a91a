import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { useDictionary } from "@/kit/dictionary";
import { gotQuery } from "@/kit/got";
import { Page } from "@/kit/page";
import { aggregateQuery, useResource } from "@/kit/queries";
import { ScrollBox } from "@/kit/scroll-box";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";

type Rates = Schema<"sales.ListWinRatesResponse">;

/** Against whom we win and lose, and why deals end as they do. */
export function WinRatesPage() {
  const { t } = useText();
  const rates = useQuery(
    gotQuery<Rates>(["aggregate", "opportunities", "win-rates"], "/v1/competitors:winRates"),
  );
  return (
    <Page title={t("page.winRates")}>
      <div className="stack">
        <section className="card card-body">
          <h2>{t("winRates.competitors")}</h2>
          {rates.isError ? (
            <ErrorNote error={rates.error} onRetry={() => void rates.refetch()} />
          ) : rates.isPending ? (
            <Skeleton lines={5} />
          ) : (rates.data.rates ?? []).length === 0 ? (
            <Empty title={t("winRates.none")} text={t("winRates.noneText")} />
          ) : (
            <Competitors rates={rates.data.rates ?? []} />
          )}
        </section>
        <Reasons />
      </div>
    </Page>
  );
}

function Competitors({ rates }: { rates: NonNullable<Rates["rates"]> }) {
  const { t } = useText();
  const reason = useReasonLabel();
  return (
    <ScrollBox label={t("winRates.competitors")}>
      <table className="plain">
        <caption className="visually-hidden">{t("winRates.competitors")}</caption>
        <thead>
          <tr>
            <th scope="col">{t("winRates.competitor")}</th>
            <th scope="col">{t("winRates.rate")}</th>
            {["deals", "won", "lost"].map((key) => (
              <th key={key} scope="col" className="number">
                {t(`winRates.${key}`)}
              </th>
            ))}
            <th scope="col">{t("winRates.reasons")}</th>
          </tr>
        </thead>
        <tbody>
          {rates.map((rate) => (
            <tr key={rate.competitor} className={rate.few ? "faint" : ""}>
              <th scope="row">
                <Link to={`/${rate.competitor}`}>{rate.displayName}</Link>
              </th>
              <td>
                <span className="funnel-bar" aria-hidden="true">
                  <span style={{ width: `${Number(rate.winPercent ?? 0)}%` }} />
                </span>{" "}
                {rate.winPercent ? `${rate.winPercent} %` : "—"} {rate.few && t("winRates.few")}
              </td>
              <td className="number">{rate.deals ?? 0}</td>
              <td className="number">{rate.won ?? 0}</td>
              <td className="number">{rate.lostToThem ?? 0}</td>
              <td>
                {(rate.reasons ?? [])
                  .map((one) => `${reason(one.reason ?? "")} ${one.count ?? 0}`)
                  .join("、") || "—"}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </ScrollBox>
  );
}

/** What a reason for a loss is called. */
function useReasonLabel() {
  const { t } = useText();
  const reasons = useDictionary(
    useResource("opportunities").fields.find((one) => one.name === "lossReason")?.dictionary ?? "",
  );
  return (value: string) =>
    reasons.find((reason) => reason.value === value)?.label ?? (value || t("winRates.unsaid"));
}

function Reasons() {
  const { t } = useText();
  const name = useReasonLabel();
  const rows = useQuery(
    aggregateQuery("opportunities", { filter: 'state = "LOST"', groupBy: ["lossReason"] }),
  );
  const most = Math.max(1, ...(rows.data ?? []).map((row) => Number(row.count)));
  const title = t("winRates.whyLost");
  return (
    <section className="card card-body" aria-label={title}>
      <h2>{title}</h2>
      {rows.isError ? (
        <ErrorNote error={rows.error} onRetry={() => void rows.refetch()} />
      ) : rows.isPending ? (
        <Skeleton lines={4} />
      ) : rows.data.length === 0 ? (
        <Empty title={t("winRates.noneEnded")} />
      ) : (
        <ul className="funnel-bars">
          {rows.data.map((row) => (
            <li key={row.group[0]}>
              <span className="cut">{name(row.group[0] ?? "")}</span>
              <span className="funnel-bar" aria-hidden="true">
                <span style={{ width: `${(Number(row.count) / most) * 100}%` }} />
              </span>
              <span className="number">{row.count}</span>
              <span />
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
