import { useInfiniteQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";
import type { Resource } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { formatRelative } from "@/kit/dates";
import { FieldValue, Reference } from "@/kit/field-value";
import { Page } from "@/kit/page";
import { pagesQuery, titleOf, useCatalogue, useResource } from "@/kit/queries";
import { RecordFields } from "@/kit/record-fields";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";
import { VerbBar } from "@/kit/verbs";

const PAGE = 30;
const OPEN = /PENDING|WAITING|OPEN|REQUESTED/;

/** What waits for my decision: see it whole, decide, go on to the next. */
export function ApprovalsPage() {
  const { t, language } = useText();
  const resource = useResource("approvals");
  const states = resource.fields.find((field) => field.name === "state")?.choices ?? [];
  const waiting = states.find((choice) => OPEN.test(choice.value))?.value;
  const [decided, setDecided] = useState(false);
  const filter = waiting ? `${decided ? "NOT " : ""}state = "${waiting}"` : "";
  const pages = useInfiniteQuery(
    pagesQuery("approvals", { filter, orderBy: "createTime desc", pageSize: PAGE }),
  );
  const records = pages.data?.pages.flatMap((page) => page.records) ?? [];
  const [chosen, setChosen] = useState<string>();
  const open = records.find((record) => record.name === chosen) ?? records[0];

  return (
    <Page
      title={t("page.approvals")}
      actions={
        <span className="segmented" role="group" aria-label={t("page.approvals")}>
          <button type="button" aria-pressed={!decided} onClick={() => setDecided(false)}>
            {t("approvals.waiting")}
          </button>
          <button type="button" aria-pressed={decided} onClick={() => setDecided(true)}>
            {t("approvals.decided")}
          </button>
        </span>
      }
    >
      {pages.isError ? (
        <ErrorNote error={pages.error} onRetry={() => void pages.refetch()} />
      ) : pages.isPending ? (
        <Skeleton lines={8} />
      ) : records.length === 0 ? (
        <section className="card">
          <Empty title={t("approvals.none")} text={t("approvals.noneText")} />
        </section>
      ) : (
        <div className="split">
          <ul className="card inbox">
            {records.map((record) => (
              <li key={record.name}>
                <button
                  type="button"
                  className="inbox-pick"
                  aria-pressed={record === open}
                  onClick={() => setChosen(record.name)}
                >
                  <span>{titleOf(record, resource, language)}</span>
                  <span className="faint">
                    {formatRelative(String(record["createTime"] ?? ""), language)}
                  </span>
                </button>
              </li>
            ))}
          </ul>
          {open && <Decision key={open.name} resource={resource} record={open} />}
        </div>
      )}
    </Page>
  );
}

function Decision({ resource, record }: { resource: Resource; record: RecordJson }) {
  const { t, language } = useText();
  const target = String(record["target"] ?? "");
  const subject = useCatalogue().find(target.split("/")[0] ?? "");
  const facts = record["facts"] as RecordJson | undefined;
  const state = resource.fields.find((field) => field.name === "state");
  return (
    <article className="card">
      <div className="card-head">
        <h2>{titleOf(record, resource, language)}</h2>
        {state && <FieldValue field={state} value={record["state"]} />}
        <span className="grow" />
        {target && <Link to={`/${target}`}>{t("approvals.record")}</Link>}
      </div>
      <div className="card-body stack">
        <p className="faint">
          {t("approvals.by")} <Reference name={String(record["requester"] ?? record["creator"] ?? "")} />
        </p>
        {subject && facts ? (
          <RecordFields resource={subject} record={facts} />
        ) : (
          <RecordFields resource={resource} record={record} />
        )}
        <div className="row">
          <VerbBar resource={resource} record={record} />
        </div>
      </div>
    </article>
  );
}
