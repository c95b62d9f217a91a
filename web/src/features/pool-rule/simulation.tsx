import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { Bars } from "@/kit/bars";
import { fieldsNamed } from "@/kit/columns";
import { formatDate, formatInstant } from "@/kit/dates";
import { Figure } from "@/kit/figure";
import { allOf, quote } from "@/kit/filter";
import { columnOf, PagedTable } from "@/kit/plain-table";
import { aggregateQuery, pagesQuery, recordQuery, useResource } from "@/kit/queries";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";

type Result = Schema<"customer.PoolRule.Simulation">;

const POLL_MS = 1_500;
const PAGE = 50;
const FIGURES = ["accounts", "returns", "tonight", "onlyHere", "onlyActive"] as const;
const SHOWN = ["account", "owner", "time", "clause", "difference", "reason"];
const PARTS = ["ONLY_HERE", "ONLY_ACTIVE", "SAME"] as const;

/** What the version would have done in the days gone by: per day, against the version in force, one by one. */
export function Simulation({ rule }: { rule: RecordJson }) {
  const { t, language } = useText();
  const [part, setPart] = useState("");
  const running = (rule["simulation"] as Result | undefined)?.state === "RUNNING";
  // The page's own copy of the record, read again and again until the reckoning is over.
  useQuery({ ...recordQuery(rule.name), refetchInterval: running ? POLL_MS : false });
  const result = rule["simulation"] as Result | undefined;
  if (!result?.state)
    return (
      <section className="card">
        <Empty title={t("poolRule.notSimulated")} text={t("poolRule.notSimulatedText")} />
      </section>
    );
  return (
    <div className="stack">
      <p role="status" className={`note ${result.state === "FAILED" ? "note-bad" : ""}`}>
        {result.state === "RUNNING"
          ? t("poolRule.running", { count: result.accounts ?? 0 })
          : result.state === "FAILED"
            ? t("poolRule.failed")
            : t("poolRule.simulated", {
                count: result.days ?? 0,
                time: formatInstant(result.time, language),
              })}
        {result.state === "DONE" && result.digest !== rule["digest"] && ` ${t("poolRule.stale")}`}
      </p>
      {result.state === "DONE" && (
        <>
          <div className="figures">
            {FIGURES.map((key) => (
              <Figure key={key} label={t(`poolRule.figure.${key}`)}>
                {new Intl.NumberFormat(language).format(result[key] ?? 0)}
              </Figure>
            ))}
          </div>
          <PerDay rule={rule.name} />
          <div className="row" role="group" aria-label={t("poolRule.part")}>
            {["", ...PARTS, "tonight"].map((key) => (
              <button
                key={key}
                type="button"
                className="chip"
                aria-pressed={part === key}
                onClick={() => setPart(key)}
              >
                {t(`poolRule.only.${key || "all"}`)}
              </button>
            ))}
          </div>
          <Returns
            filter={allOf(
              `rule = ${quote(rule.name)}`,
              part === "tonight" ? "tonight = true" : part && `difference = ${quote(part)}`,
            )}
          />
        </>
      )}
    </div>
  );
}

function PerDay({ rule }: { rule: string }) {
  const { t, language } = useText();
  const rows = useQuery(
    aggregateQuery("simulatedReturns", {
      filter: `rule = ${quote(rule)} AND tonight = false`,
      groupBy: ["day:day", "difference"],
    }),
  );
  if (rows.isError) return <ErrorNote error={rows.error} onRetry={() => void rows.refetch()} />;
  if (rows.isPending) return <Skeleton lines={5} />;
  const days = [...new Set(rows.data.map((row) => row.group[0] ?? ""))].filter(Boolean).toSorted();
  if (days.length === 0) return null;
  const count = (day: string, part: string) =>
    Number(rows.data.find((row) => row.group[0] === day && row.group[1] === part)?.count ?? 0);
  return (
    <section className="card card-body">
      <h2>{t("poolRule.perDay")}</h2>
      <Bars
        title={t("poolRule.perDay")}
        series={[...PARTS].reverse().map((part) => t(`poolRule.only.${part}`))}
        bars={days.map((day) => ({
          key: day,
          label: formatDate(day, language),
          values: [...PARTS].reverse().map((part) => count(day, part)),
        }))}
      />
    </section>
  );
}

function Returns({ filter }: { filter: string }) {
  const { t, label } = useText();
  const { fields } = useResource("simulatedReturns");
  const pages = useInfiniteQuery(pagesQuery("simulatedReturns", { filter, orderBy: "time", pageSize: PAGE }));
  return (
    <section className="card card-body" aria-label={t("poolRule.list")}>
      <PagedTable
        caption={t("poolRule.list")}
        pages={pages}
        none={<Empty title={t("poolRule.none")} />}
        stacked
        columns={fieldsNamed(fields, SHOWN).map((field) => columnOf(field, label))}
      />
    </section>
  );
}
