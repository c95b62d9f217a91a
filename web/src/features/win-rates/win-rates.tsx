import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { useDictionaryEntries } from "@/kit/dictionary";
import { gotQuery } from "@/kit/got";
import { Page } from "@/kit/page";
import { PlainTable } from "@/kit/plain-table";
import { aggregateQuery, useResource } from "@/kit/queries";
import { Empty, Loaded } from "@/kit/states";

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
          <Loaded query={rates}>
            {({ rates: found = [] }) =>
              found.length === 0 ? (
                <Empty title={t("winRates.none")} text={t("winRates.noneText")} />
              ) : (
                <Competitors rates={found} />
              )
            }
          </Loaded>
        </section>
        <Reasons />
      </div>
    </Page>
  );
}

function Competitors({ rates }: { rates: NonNullable<Rates["rates"]> }) {
  const { t, comma } = useText();
  const reason = useReasonLabel();
  return (
    <PlainTable
      caption={t("winRates.competitors")}
      rows={rates}
      keyOf={({ competitor }) => competitor ?? ""}
      rowProps={({ few }) => ({ className: few ? "faint" : "" })}
      columns={[
        {
          key: "competitor",
          title: t("winRates.competitor"),
          row: true,
          cell: (rate) => <Link to={`/${rate.competitor}`}>{rate.displayName}</Link>,
        },
        {
          key: "rate",
          title: t("winRates.rate"),
          cell: ({ winPercent, few }) => (
            <>
              <span className="funnel-bar" aria-hidden="true">
                <span style={{ width: `${Number(winPercent ?? 0)}%` }} />
              </span>{" "}
              {winPercent ? `${winPercent} %` : "—"} {few && t("winRates.few")}
            </>
          ),
        },
        { key: "deals", title: t("winRates.deals"), number: true, cell: ({ deals }) => deals ?? 0 },
        { key: "won", title: t("winRates.won"), number: true, cell: ({ won }) => won ?? 0 },
        { key: "lost", title: t("winRates.lost"), number: true, cell: ({ lostToThem }) => lostToThem ?? 0 },
        {
          key: "reasons",
          title: t("winRates.reasons"),
          cell: ({ reasons = [] }) =>
            reasons.map((one) => `${reason(one.reason ?? "")} ${one.count ?? 0}`).join(comma) || "—",
        },
      ]}
    />
  );
}

/** What a reason for a loss is called. */
function useReasonLabel() {
  const { t } = useText();
  const reasons = useDictionaryEntries(
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
      <Loaded query={rows} lines={4}>
        {(found) =>
          found.length === 0 ? (
            <Empty title={t("winRates.noneEnded")} />
          ) : (
            <ul className="funnel-bars">
              {found.map((row) => (
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
          )
        }
      </Loaded>
    </section>
  );
}
