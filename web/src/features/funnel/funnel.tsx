import { useQuery } from "@tanstack/react-query";
import { Select } from "antd";
import { lazy, Suspense } from "react";
import { useSearchParams } from "react-router";
import { useText } from "@/i18n";
import { useFunnel } from "@/kit/funnel";
import { formatMoney } from "@/kit/money";
import { Page } from "@/kit/page";
import { firstPageQuery } from "@/kit/queries";
import { ScrollBox } from "@/kit/scroll-box";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";

const Chart = lazy(async () => ({ default: (await import("./chart")).FunnelChart }));

/** Where the open deals stand, as a picture and as a table with the same figures. */
export function FunnelPage() {
  const { t, language } = useText();
  const [params, setParams] = useSearchParams();
  const mine = params.get("mine") === "1";
  const pipeline = params.get("pipeline") ?? "";
  const pipelines = useQuery(firstPageQuery("pipelines", { pageSize: 50 }));
  const funnel = useFunnel(mine ? "owner = me" : "", pipeline);
  const set = (key: string, value: string) =>
    setParams((before) => {
      const next = new URLSearchParams(before);
      if (value) next.set(key, value);
      else next.delete(key);
      return next;
    });
  const stages = funnel.data ?? [];
  const total = stages.reduce((sum, stage) => sum + stage.count, 0);
  const choices = pipelines.data?.records ?? [];

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
              value={pipeline || choices[0]?.name}
              options={choices.map((record) => ({
                value: record.name,
                label: String(record["displayName"] ?? ""),
              }))}
              onChange={(value) => set("pipeline", value)}
            />
          )}
          <button
            type="button"
            className="chip"
            aria-pressed={mine}
            onClick={() => set("mine", mine ? "" : "1")}
          >
            {t("list.mine")}
          </button>
        </>
      }
    >
      {funnel.isError ? (
        <ErrorNote error={funnel.error} onRetry={() => void funnel.refetch()} />
      ) : funnel.isPending ? (
        <Skeleton lines={10} />
      ) : total === 0 ? (
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
            <ScrollBox label={t("page.funnel")}>
              <table className="plain">
                <caption className="visually-hidden">{t("page.funnel")}</caption>
                <thead>
                  <tr>
                    <th scope="col">{t("funnel.column")}</th>
                    <th scope="col" className="number">
                      {t("funnel.count")}
                    </th>
                    <th scope="col" className="number">
                      {t("funnel.amount")}
                    </th>
                    <th scope="col" className="number">
                      {t("funnel.probability")}
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {stages.map((stage) => (
                    <tr key={stage.key}>
                      <th scope="row">{stage.title}</th>
                      <td className="number">{stage.count}</td>
                      <td className="number">
                        {Object.entries(stage.amounts)
                          .map(([currencyCode, amount]) => formatMoney({ currencyCode, amount }, language))
                          .join(" + ") || "—"}
                      </td>
                      <td className="number">
                        {stage.probability === undefined ? "—" : `${stage.probability} %`}
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </ScrollBox>
          </section>
        </div>
      )}
    </Page>
  );
}
