import { useQuery } from "@tanstack/react-query";
import { aggregate, list } from "@/api/client";
import { useText } from "@/i18n";
import { allOf, quote } from "./filter";
import { itemsOf } from "./keyed";
import { useCatalogue } from "./queries";
import { addAmounts, formatMoney, formatShort } from "./money";

export interface FunnelStage {
  key: string;
  title: string;
  probability: string | undefined;
  count: number;
  /** Amounts by currency; they never add up across currencies. */
  amounts: Record<string, string>;
}

/** Open opportunities by the stages of a pipeline, in the order of the pipeline. */
export function useFunnel(filter = "", pipeline = "") {
  const { language } = useText();
  const keyed = useCatalogue()
    .find("opportunities")
    ?.fields.find((field) => field.name === "stage")?.keyed;
  return useQuery({
    queryKey: ["aggregate", "opportunities", "funnel", filter, pipeline, language],
    enabled: keyed !== undefined,
    queryFn: async ({ signal }): Promise<FunnelStage[]> => {
      const pipelines = await list("pipelines", { pageSize: 50 }, signal);
      const chosen =
        pipelines.records.find((record) => record.name === pipeline) ??
        pipelines.records.find((record) => record["isDefault"] === true) ??
        pipelines.records[0];
      if (!chosen || !keyed) return [];
      const rows = await aggregate(
        "opportunities",
        {
          filter: allOf('state = "OPEN"', filter, `pipeline = ${quote(chosen.name)}`),
          groupBy: ["stage"],
          sum: ["amount"],
        },
        signal,
      );
      const stages = chosen[keyed.list] as { probability?: string }[];
      return itemsOf(chosen, keyed, language).map(({ key, label }, index) => {
        const own = rows.filter((row) => row.group[0] === key);
        const amounts: Record<string, string> = {};
        for (const [field, amount] of own.flatMap((row) => Object.entries(row.sums))) {
          const currency = field.split(":")[1] ?? "CNY";
          amounts[currency] = addAmounts([amounts[currency] ?? "0", amount]);
        }
        return {
          key,
          title: label,
          probability: stages[index]?.probability,
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
