import { useQuery } from "@tanstack/react-query";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { formatDate } from "@/kit/dates";
import { Figure } from "@/kit/figure";
import { gotQuery } from "@/kit/got";
import { formatMoney } from "@/kit/money";
import { PlainTable } from "@/kit/plain-table";
import { Loaded } from "@/kit/states";
import { numberFormat } from "@/kit/formatters";

type Found = Schema<"customer.AccountLoyalty">;

const TONE: Record<string, string> = { LOW: "tag-good", MEDIUM: "tag-warn", HIGH: "tag-bad" };

/** How loyal a customer is, by which of five indicators; what it brings in a year, and whether it is about to leave. */
export function Loyalty({ account }: { account: string }) {
  const query = useQuery(gotQuery<Found>(["record", account, "loyalty"], `/v1/${account}:loyalty`));
  return (
    <Loaded query={query}>
      {(found) => (
        <div className="stack">
          <Glance found={found} />
          <section className="card card-body">
            <Indicators found={found} />
          </section>
          <Churn found={found} />
        </div>
      )}
    </Loaded>
  );
}

function Glance({ found }: { found: Found }) {
  const { t, language } = useText();
  const known = found.degree !== "UNKNOWN";
  return (
    <div className="figures">
      <Figure
        label={t("loyalty.degree")}
        note={
          found.reckonedSince && (
            <small className="faint">
              {t("loyalty.since", {
                degree: t(`loyalty.degrees.${found.reckoned ?? "UNKNOWN"}`),
                day: formatDate(found.reckonedSince, language),
              })}
            </small>
          )
        }
      >
        {t(`loyalty.degrees.${found.degree ?? "UNKNOWN"}`)}
      </Figure>
      <Figure label={t("loyalty.score")}>{known ? (found.score ?? 0) : "–"}</Figure>
      <Figure label={t("loyalty.contribution")}>
        {(found.contribution ?? []).map((one) => formatMoney(one, language)).join(" + ") || "–"}
      </Figure>
    </div>
  );
}

function Indicators({ found }: { found: Found }) {
  const { t, language } = useText();
  const number = (value: string) => numberFormat(language).format(Number(value));
  return (
    <PlainTable
      caption={t("loyalty.indicators")}
      stacked
      rows={found.indicators ?? []}
      keyOf={(one, index) => one.measure ?? index}
      columns={[
        {
          key: "measure",
          title: t("loyalty.indicator"),
          row: true,
          cell: (one) => t(`loyalty.measures.${one.measure ?? ""}`),
        },
        { key: "weight", title: t("loyalty.weight"), number: true, cell: (one) => one.weight ?? 0 },
        {
          key: "value",
          title: t("loyalty.value"),
          number: true,
          cell: (one) => {
            if (one.withheld) return t("loyalty.withheld");
            return one.value ? number(one.value) : t("loyalty.unknown");
          },
        },
        {
          key: "points",
          title: t("loyalty.points"),
          number: true,
          cell: (one) => (one.value ? (one.points ?? 0) : "–"),
        },
        { key: "facts", title: t("loyalty.facts"), number: true, cell: (one) => one.facts ?? 0 },
        {
          key: "period",
          title: t("loyalty.period"),
          cell: (one) => `${formatDate(one.fromDate, language)} – ${formatDate(one.toDate, language)}`,
        },
      ]}
    />
  );
}

function Churn({ found }: { found: Found }) {
  const { t } = useText();
  const { churn } = found;
  if (!churn) return null;
  return (
    <section className="card">
      <div className="card-head">
        <h2>{t("loyalty.churn")}</h2>
        <span className={`tag ${TONE[churn.band ?? ""] ?? ""}`}>
          {t(`loyalty.bands.${churn.band ?? ""}`)} {churn.value ?? 0}
        </span>
      </div>
      <ul className="card-body">
        {(churn.reasons ?? []).map((reason) => (
          <li key={reason.code}>
            {reason.text} <span className="faint">+{reason.points ?? 0}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}
