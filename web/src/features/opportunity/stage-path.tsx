import { useQuery } from "@tanstack/react-query";
import type { RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { itemsOf } from "@/kit/keyed";
import { recordQuery, useResource } from "@/kit/queries";

interface Visit {
  stage?: string;
  enterTime?: string;
  leaveTime?: string;
}

const DAY_MS = 86_400_000;

/** The stages of the deal's own version of the process, with the days spent in each. */
export function StagePath({ record }: { record: RecordJson }) {
  const { t, language } = useText();
  const keyed = useResource("opportunities").fields.find(({ name }) => name === "stage")?.keyed;
  const pipeline = String(record["pipeline"] ?? "");
  const holder = useQuery({ ...recordQuery(pipeline), enabled: pipeline !== "" });
  if (!holder.data || !keyed) return null;
  const visits = (record["stageHistory"] as Visit[] | undefined) ?? [];
  const until = Date.parse(String(record["updateTime"] ?? ""));
  const days = (key: string) => {
    const spent = visits
      .filter(({ stage }) => stage === key)
      .reduce(
        (sum, visit) =>
          sum +
          (visit.leaveTime ? Date.parse(visit.leaveTime) : until) -
          Date.parse(String(visit.enterTime ?? record["createTime"])),
        0,
      );
    return Math.max(0, Math.round(spent / DAY_MS));
  };
  return (
    <ol className="steps" aria-label={t("opportunity.path")}>
      {itemsOf(holder.data, keyed, language).map(({ key, label }) => {
        const seen = visits.some(({ stage }) => stage === key);
        return (
          <li
            key={key}
            aria-current={record["stage"] === key ? "step" : undefined}
            className={seen ? "step-seen" : ""}
          >
            {label}
            {seen && <small> {t("opportunity.days", { count: days(key) })}</small>}
          </li>
        );
      })}
    </ol>
  );
}
