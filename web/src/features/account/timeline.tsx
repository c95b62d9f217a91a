import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { splitName } from "@/api/client";
import { useText } from "@/i18n";
import { dated, formatInstant, formatRelative } from "@/kit/dates";
import { FactName, Reference } from "@/kit/field-value";
import { allOf, quote } from "@/kit/filter";
import { groupBy } from "@/kit/group-by";
import { Icon } from "@/kit/icons";
import { formatMoney, type Money } from "@/kit/money";
import { isName, pagesQuery, recordsOf, useResource } from "@/kit/queries";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";
import { useStored } from "@/kit/stored";
import { screenOf } from "@/resources";
import { useState } from "react";
import { MorePages } from "@/kit/more-pages";
import { dateFormat } from "@/kit/formatters";

const PAGE = 30;

/** Every fact about the customer, newest first, by day. */
export function Timeline({ account }: { account: string }) {
  const { t, language, label } = useText();
  const resource = useResource("timeline");
  const phases = resource.fields.find((field) => field.name === "phase")?.choices ?? [];
  const [phase, setPhase] = useState("");
  const [exact, setExact] = useStored("timeline.exact", false);
  const filter = allOf(`account = ${quote(account)}`, phase && `phase = ${quote(phase)}`);
  const pages = useInfiniteQuery(
    pagesQuery("timeline", { filter, orderBy: "occurTime desc", pageSize: PAGE }),
  );
  const entries = recordsOf(pages);

  const days = Object.entries(
    groupBy(entries, (entry) =>
      dateFormat(dated(language), { dateStyle: "long" }).format(new Date(String(entry["occurTime"]))),
    ),
  );

  return (
    <section className="card">
      <div className="card-head">
        <h2>{t("account.timeline")}</h2>
        <span className="grow" />
        <div className="row" role="group" aria-label={t("account.phase")}>
          {[{ value: "", label: null }, ...phases].map((choice) => (
            <button
              key={choice.value}
              type="button"
              className="chip"
              aria-pressed={phase === choice.value}
              onClick={() => setPhase(choice.value)}
            >
              {choice.label ? label(choice.label) : t("account.allPhases")}
            </button>
          ))}
          <button type="button" className="chip" aria-pressed={exact} onClick={() => setExact(!exact)}>
            {t("account.exactTime")}
          </button>
        </div>
      </div>
      <div className="card-body">
        {pages.isError && <ErrorNote error={pages.error} onRetry={() => void pages.refetch()} />}
        {pages.isPending && <Skeleton lines={6} />}
        {pages.data && entries.length === 0 && (
          <Empty title={t("account.noFacts")} text={t("account.noFactsText")} />
        )}
        {days.map(([day, facts]) => (
          <section key={day} className="feed-day">
            <h3>{day}</h3>
            <ol className="feed">
              {(facts ?? []).map((fact) => {
                const ref = String(fact["ref"] ?? "");
                const time = String(fact["occurTime"]);
                const summary = String(fact["summary"] ?? "");
                const amount = fact["amount"] as Money | undefined;
                return (
                  <li key={fact.name}>
                    <span className={`feed-icon feed-${String(fact["phase"] ?? "").toLowerCase()}`}>
                      <Icon name={ref ? screenOf(splitName(ref).collection).icon : "interactions"} />
                    </span>
                    <div>
                      <p>
                        <FactName name={String(fact["kind"] ?? "")} />
                        {summary && " · "}
                        {isName(summary) ? (
                          <Reference name={summary} />
                        ) : ref ? (
                          <Link to={`/${ref}`}>{summary}</Link>
                        ) : (
                          summary
                        )}
                        {amount?.amount && (
                          <strong className="feed-amount">{formatMoney(amount, language)}</strong>
                        )}
                      </p>
                      <p className="faint">
                        {Boolean(fact["actor"]) && (
                          <>
                            <Reference name={String(fact["actor"])} link={false} /> ·{" "}
                          </>
                        )}
                        <time dateTime={time} title={formatInstant(time, language)}>
                          {exact ? formatInstant(time, language) : formatRelative(time, language)}
                        </time>
                      </p>
                    </div>
                  </li>
                );
              })}
            </ol>
          </section>
        ))}
        <MorePages pages={pages} className="button" />
      </div>
    </section>
  );
}
