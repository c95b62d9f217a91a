import { useQuery } from "@tanstack/react-query";
import { Select } from "antd";
import { lazy, Suspense } from "react";
import { Link } from "react-router";
import { useText } from "@/i18n";
import { useAddress } from "@/kit/address";
import { Figure } from "@/kit/figure";
import { allOf, quote } from "@/kit/filter";
import { useFunnel } from "@/kit/funnel";
import { formatMoney } from "@/kit/money";
import { Page } from "@/kit/page";
import { PlainTable } from "@/kit/plain-table";
import { aggregateQuery, firstPageQuery, useResource } from "@/kit/queries";
import { Empty, ErrorNote, Loaded, Skeleton } from "@/kit/states";

const Chart = lazy(async () => ({ default: (await import("./chart")).FunnelChart }));

/** Where the open deals stand, as a picture and as a table with the same figures. */
export function FunnelPage() {
  const { t, language } = useText();
  const [params, go] = useAddress();
  const mine = params.get("mine") === "1";
  const pipeline = params.get("pipeline") ?? "";
  const pipelines = useQuery(firstPageQuery("pipelines", { pageSize: 50 }));
  const filter = mine ? "owner = me" : "";
  const funnel = useFunnel(filter, pipeline);
  const stages = funnel.data ?? [];
  const total = stages.reduce((sum, stage) => sum + stage.count, 0);
  const choices = pipelines.data?.records ?? [];
  const chosen =
    choices.find(({ name }) => name === pipeline) ?? choices.find((one) => one["isDefault"]) ?? choices[0];

  return (
    <Page
      title={t("page.funnel")}
      note={
        <p className="faint" role="status">
          {funnel.data ? t("funnel.total", { count: total }) : " "}
        </p>
      }
      actions={
        <>
          {choices.length > 1 && (
            <Select
              aria-label={t("board.process")}
              value={chosen?.name}
              options={choices.map((record) => ({
                value: record.name,
                label: String(record["displayName"] ?? ""),
              }))}
              onChange={(value) => go({ pipeline: value })}
            />
          )}
          <button
            type="button"
            className="chip"
            aria-pressed={mine}
            onClick={() => go({ mine: mine ? "" : "1" })}
          >
            {t("list.mine")}
          </button>
        </>
      }
    >
      <div className="stack">
        <Loaded query={funnel} lines={10}>
          {() =>
            total === 0 ? (
              <section className="card">
                <Empty title={t("funnel.none")} />
              </section>
            ) : (
              <div className="funnel-page">
                <section className="card card-body" aria-label={t("page.funnel")}>
                  <Suspense fallback={<Skeleton lines={10} />}>
                    <Chart stages={stages} />
                  </Suspense>
                </section>
                <section className="card card-body">
                  <PlainTable
                    caption={t("page.funnel")}
                    rows={stages}
                    keyOf={({ key }) => key}
                    columns={[
                      { key: "stage", title: t("funnel.column"), row: true, cell: ({ title }) => title },
                      { key: "count", title: t("funnel.count"), number: true, cell: ({ count }) => count },
                      {
                        key: "amount",
                        title: t("funnel.amount"),
                        number: true,
                        cell: ({ amounts }) =>
                          Object.entries(amounts)
                            .map(([currencyCode, amount]) => formatMoney({ currencyCode, amount }, language))
                            .join(" + ") || "—",
                      },
                      {
                        key: "probability",
                        title: t("funnel.probability"),
                        number: true,
                        cell: ({ probability }) => (probability === undefined ? "—" : `${probability} %`),
                      },
                    ]}
                  />
                </section>
              </div>
            )
          }
        </Loaded>
        {chosen && <Closed within={allOf(filter, `pipeline = ${quote(chosen.name)}`)} />}
      </div>
    </Page>
  );
}

const ENDS = ["WON", "LOST"];

/** How many left the funnel at either end, and for how much; each leads to its opportunities. */
function Closed({ within }: { within: string }) {
  const { label, language } = useText();
  const states = useResource("opportunities").fields.find(({ name }) => name === "state")?.choices ?? [];
  const rows = useQuery(
    aggregateQuery("opportunities", {
      filter: allOf(within, `(${ENDS.map((state) => `state = "${state}"`).join(" OR ")})`),
      groupBy: ["state"],
      sum: ["amount"],
    }),
  );
  if (rows.isError) return <ErrorNote error={rows.error} onRetry={() => void rows.refetch()} />;
  return (
    <div className="figures">
      {states
        .filter(({ value }) => ENDS.includes(value))
        .map(({ value, label: title }) => {
          const row = rows.data?.find(({ group }) => group[0] === value);
          const sums = Object.entries(row?.sums ?? {}).map(([key, amount]) =>
            formatMoney({ currencyCode: key.split(":")[1] ?? "CNY", amount }, language),
          );
          return (
            <Figure key={value} label={label(title)} note={<span className="faint">{sums.join(" + ")}</span>}>
              <Link to={`/opportunities?where=${encodeURIComponent(allOf(within, `state = "${value}"`))}`}>
                {Number(row?.count ?? 0).toLocaleString(language)}
              </Link>
            </Figure>
          );
        })}
    </div>
  );
}
