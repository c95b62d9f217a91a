import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useState, type ReactNode } from "react";
import type { Json, RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { Bars } from "@/kit/bars";
import { fieldsNamed } from "@/kit/columns";
import { formatDate, formatInstant } from "@/kit/dates";
import { Reference } from "@/kit/field-value";
import { Figure } from "@/kit/figure";
import { allOf, quote } from "@/kit/filter";
import { columnOf, PagedTable, PlainTable } from "@/kit/plain-table";
import { aggregateQuery, pagesQuery, recordQuery, useResource } from "@/kit/queries";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";
import { numberFormat } from "@/kit/formatters";

type Result = Pick<Schema<"customer.PoolRule.Simulation">, "state" | "days" | "time" | "digest"> & Json;

const POLL_MS = 1_500;
const PAGE = 50;
const FIGURES = ["accounts", "returns", "tonight", "onlyHere", "onlyActive"] as const;
const SHOWN = ["account", "owner", "time", "clause", "difference", "reason"];
const PARTS = ["ONLY_HERE", "ONLY_ACTIVE", "SAME"] as const;

/** What the version would have done in the days gone by: per day, against the version in force, one by one. */
export function Simulation({ rule }: { rule: RecordJson }) {
  const { t } = useText();
  const [part, setPart] = useState("");
  return (
    <Simulated rule={rule} words="poolRule" looked="accounts" figures={FIGURES}>
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
    </Simulated>
  );
}

/** What the version of a lead pool's rules would have done, with the first of the leads. */
export function LeadSimulation({ rule }: { rule: RecordJson }) {
  const { t, language } = useText();
  const { examples = [] } = (rule["simulation"] ?? {}) as Schema<"sales.LeadPoolRule.Simulation">;
  return (
    <Simulated rule={rule} words="leadPoolRule" looked="leads" figures={["leads", "returns", "today"]}>
      <section className="card card-body">
        {examples.length === 0 ? (
          <Empty title={t("poolRule.none")} />
        ) : (
          <PlainTable
            caption={t("leadPoolRule.examples")}
            rows={examples}
            keyOf={(_, index) => index}
            stacked
            columns={[
              {
                key: "lead",
                title: t("pool.leads.item"),
                row: true,
                cell: ({ lead }) => <Reference name={lead ?? ""} />,
              },
              {
                key: "who",
                title: t("leadPoolRule.who"),
                cell: ({ employee }) => employee && <Reference name={employee} />,
              },
              { key: "clause", title: t("leadPoolRule.clause"), cell: ({ clause }) => clause },
              {
                key: "when",
                title: t("leadPoolRule.when"),
                cell: ({ time }) => formatInstant(time, language),
              },
            ]}
          />
        )}
      </section>
    </Simulated>
  );
}

interface Props {
  rule: RecordJson;
  words: string;
  /** Which figure tells how much was looked at. */
  looked: string;
  figures: readonly string[];
  children: ReactNode;
}

/** How far the reckoning is; its figures and what follows from them when it is done. */
function Simulated({ rule, words, looked, figures, children }: Props) {
  const { t, language } = useText();
  const running = (rule["simulation"] as Result | undefined)?.state === "RUNNING";
  // The page's own copy of the record, read again and again until the reckoning is over.
  useQuery({ ...recordQuery(rule.name), refetchInterval: running ? POLL_MS : false });
  const result = rule["simulation"] as Result | undefined;
  if (!result?.state)
    return (
      <section className="card">
        <Empty title={t("poolRule.notSimulated")} text={t(`simulated.${words}.notSimulatedText`)} />
      </section>
    );
  const figure = (key: string) => Number(result[key] ?? 0);
  return (
    <div className="stack">
      <p role="status" className={`note ${result.state === "FAILED" ? "note-bad" : ""}`}>
        {result.state === "RUNNING"
          ? t(`simulated.${words}.running`, { count: figure(looked) })
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
            {figures.map((key) => (
              <Figure key={key} label={t(`simulated.${words}.figure.${key}`)}>
                {numberFormat(language).format(figure(key))}
              </Figure>
            ))}
          </div>
          {children}
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
