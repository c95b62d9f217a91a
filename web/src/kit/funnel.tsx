import { useQuery } from "@tanstack/react-query";
import { aggregate, list } from "@/api/client";
import { useText } from "@/i18n";
import { allOf, quote } from "./filter";
import { addAmounts, formatMoney, formatShort } from "./money";

export interface FunnelStage {
  key: string;
  title: string;
  probability: number | undefined;
  count: number;
  /** Amounts by currency; they never add up across currencies. */
  amounts: Record<string, string>;
}

/** Open opportunities by the stages of a pipeline, in the order of the pipeline. */
export function useFunnel(filter = "", pipeline = "") {
  return useQuery({
    queryKey: ["aggregate", "opportunities", "funnel", filter, pipeline],
    queryFn: async ({ signal }): Promise<FunnelStage[]> => {
      const pipelines = await list("pipelines", { pageSize: 50 }, signal);
      const chosen = pipelines.records.find((record) => record.name === pipeline) ?? pipelines.records[0];
      const stages = (chosen?.["stages"] as Record<string, unknown>[] | undefined) ?? [];
      const rows = await aggregate(
        "opportunities",
        {
          filter: allOf('state = "OPEN"', filter, chosen ? `pipeline = ${quote(chosen.name)}` : ""),
          groupBy: ["stage"],
          sum: ["amount"],
        },
        signal,
      );
      return stages.map((stage) => {
        const key = String(stage["id"] ?? stage["key"] ?? stage["code"] ?? stage["displayName"] ?? "");
        const own = rows.filter((row) => row.group[0] === key);
        const amounts: Record<string, string> = {};
        for (const [field, amount] of own.flatMap((row) => Object.entries(row.sums))) {
          const currency = field.split(":")[1] ?? "CNY";
          amounts[currency] = addAmounts([amounts[currency] ?? "0", amount]);
        }
        return {
          key,
          title: String(stage["displayName"] ?? key),
          probability: typeof stage["probability"] === "number" ? stage["probability"] : undefined,
          count: own.reduce((sum, row) => sum + Number(row.count), 0),
          amounts,
        };
      });
    },
  });
}

/** The funnel in small: bars with their words beside them. */
export function FunnelBars({ stages }: { stages: FunnelStage[] }) {
  const { language } = useText();
  const most = Math.max(1, ...stages.map((stage) => stage.count));
  return (
    <ul className="funnel-bars">
      {stages.map((stage) => (
        <li key={stage.key}>
          <span className="cut">{stage.title}</span>
          <span className="funnel-bar" aria-hidden="true">
            <span style={{ width: `${(stage.count / most) * 100}%` }} />
          </span>
          <span className="number">{stage.count}</span>
          <span
            className="number faint"
            title={Object.entries(stage.amounts)
              .map(([currencyCode, amount]) => formatMoney({ currencyCode, amount }, language))
              .join(" + ")}
          >
            {Object.entries(stage.amounts)
              .map(([currency, amount]) => formatShort(amount, currency, language))
              .join(" + ") || "—"}
          </span>
        </li>
      ))}
    </ul>
  );
}
