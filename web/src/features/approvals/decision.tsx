import { useQuery } from "@tanstack/react-query";
import { useRef } from "react";
import { Link } from "react-router";
import { COMMON, type Resource } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { formatInstant } from "@/kit/dates";
import { FieldValue, Reference } from "@/kit/field-value";
import { useShortcuts } from "@/kit/keyboard";
import { isBlank, same } from "@/kit/patch";
import { recordQuery, titleOf, useCatalogue, useSession } from "@/kit/queries";
import { lineFields, LineTables, RecordFields } from "@/kit/record-fields";
import { VerbBar } from "@/kit/verbs";

interface Vote {
  approver?: string;
  vote?: string;
  time?: string;
  comment?: string;
  why?: string;
  replaced?: string;
}

interface Step {
  step?: { label?: string };
  state?: string;
}

/** One request with all that a decision needs: what would change, the whole record, who decides, what was said. */
export function Decision({ resource, record }: { resource: Resource; record: RecordJson }) {
  const { t, language } = useText();
  const head = useRef<HTMLDivElement>(null);
  const target = String(record["target"] ?? "");
  const subject = useCatalogue().find(target.split("/")[0] ?? "");
  const facts = record["facts"] as RecordJson | undefined;
  const state = resource.fields.find((field) => field.name === "state");
  const press = (verb: string) =>
    head.current?.parentElement?.querySelector<HTMLButtonElement>(`[data-verb="${verb}"]`)?.click();
  useShortcuts({
    y: () => press("approve"),
    r: () => press("reject"),
    d: () => document.getElementById("approval-diff")?.scrollIntoView({ block: "start" }),
  });
  return (
    <article className="card decision">
      <div className="card-head" ref={head}>
        <h2>{titleOf(record, resource, language)}</h2>
        {state && <FieldValue field={state} value={record["state"]} />}
        <span className="grow" />
        {target && <Link to={`/${target}`}>{t("approvals.record")}</Link>}
      </div>
      <div className="card-body stack">
        <p className="faint">
          {t("approvals.by")}{" "}
          <Reference name={String(record["requester"] ?? record["creator"] ?? "")} link={false} /> ·{" "}
          {formatInstant(String(record["createTime"]), language)}
        </p>
        {record["state"] === "PENDING" && (
          <div className="row decision-bar">
            <VerbBar resource={resource} record={record} />
          </div>
        )}
        {subject && facts && <Changes subject={subject} name={target} facts={facts} />}
        {subject && <Since subject={subject} record={record} />}
        <Path resource={resource} record={record} />
        <Said record={record} />
        {subject && facts ? (
          <section>
            <h3>{t("approvals.whole")}</h3>
            <RecordFields resource={subject} record={facts} />
            {lineFields(subject, facts).length > 0 && <LineTables resource={subject} record={facts} />}
          </section>
        ) : (
          <RecordFields resource={resource} record={record} />
        )}
      </div>
    </article>
  );
}

/** What the verb would make of the record as it is now. */
function Changes({ subject, name, facts }: { subject: Resource; name: string; facts: RecordJson }) {
  const { t, label } = useText();
  const session = useSession();
  const now = useQuery({ ...recordQuery(name), enabled: may(session, subject.permissions.read) });
  if (!now.data) return null;
  const changed = subject.fields.filter(
    (field) =>
      !COMMON.has(field.name) &&
      field.kind !== "free" &&
      facts[field.name] !== undefined &&
      !same(facts[field.name], now.data[field.name]),
  );
  return (
    <section id="approval-diff">
      <h3>{t("approvals.changes")}</h3>
      {changed.length === 0 ? (
        <p className="faint">{t("approvals.noChanges")}</p>
      ) : (
        <ul className="changes">
          {changed.map((field) => (
            <li key={field.name}>
              <span className="faint">{label(field.label)}</span>{" "}
              <del>
                <FieldValue field={field} value={now.data[field.name]} links={false} />
              </del>
              <span aria-label={t("history.became")}> → </span>
              <ins>
                <FieldValue field={field} value={facts[field.name]} links={false} />
              </ins>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

/** What differs from the content that was approved the last time. */
function Since({ subject, record }: { subject: Resource; record: RecordJson }) {
  const { t, label } = useText();
  const changes = (record["sinceApproved"] ?? []) as { field: string; before: string; after: string }[];
  if (changes.length === 0) return null;
  return (
    <section>
      <h3>{t("approvals.since")}</h3>
      <ul className="changes">
        {changes.map((change) => {
          const field = subject.fields.find(({ name }) => name === change.field);
          if (!field) return null;
          return (
            <li key={change.field}>
              <span className="faint">{label(field.label)}</span>{" "}
              <del>
                <FieldValue field={field} value={parsed(change.before)} links={false} />
              </del>
              <span aria-label={t("history.became")}> → </span>
              <ins>
                <FieldValue field={field} value={parsed(change.after)} links={false} />
              </ins>
            </li>
          );
        })}
      </ul>
    </section>
  );
}

const parsed = (text: string): unknown => (text ? (JSON.parse(text) as unknown) : undefined);

const WHYS =
  /^(named|superior|head|role|reassigned|asked|timeout|nobody|successor|for|delegation|chosen|field|partner)\b/;

/** Why this person decides: the server tells it in a few words of its own. */
function Why({ text }: { text: string }) {
  const { t } = useText();
  const word = WHYS.exec(text)?.[1];
  return <span className="faint"> · {word ? t(`approvals.why.${word}`) : text}</span>;
}

/** What was said beside the decisions. */
function Said({ record }: { record: RecordJson }) {
  const { t, language } = useText();
  const remarks = (record["remarks"] ?? []) as { author?: string; time?: string; text?: string }[];
  if (remarks.length === 0) return null;
  return (
    <section>
      <h3>{t("approvals.said")}</h3>
      <ol className="feed">
        {remarks.map(({ author, time, text }, index) => (
          <li key={index}>
            <span className="feed-dot" aria-hidden="true" />
            <div>
              <p>
                <Reference name={author ?? ""} />
              </p>
              <p className="prose">{text}</p>
              {time && (
                <time className="faint" dateTime={time}>
                  {formatInstant(time, language)}
                </time>
              )}
            </div>
          </li>
        ))}
      </ol>
    </section>
  );
}

/** Who decides and what they said, in their order; then the steps that are ahead. */
function Path({ resource, record }: { resource: Resource; record: RecordJson }) {
  const { t, language } = useText();
  const field = resource.fields.find(({ name }) => name === "decisions");
  const votes = (record["decisions"] ?? []) as Vote[];
  const choice = field?.fields.find(({ name }) => name === "vote");
  const ahead = ((record["steps"] ?? []) as Step[])
    .map((step, index) => ({ ...step, title: step.step?.label || `${index + 1}` }))
    .filter(({ state }) => state === "WAITING" || state === "CHOOSING" || state === "PASSED");
  if (votes.length === 0 && ahead.length === 0) return null;
  return (
    <section>
      <h3>{t("approvals.path")}</h3>
      <ol className="feed">
        {votes.map((vote, index) => (
          <li key={index}>
            <span className={`feed-dot ${isBlank(vote.vote) ? "feed-dot-open" : ""}`} aria-hidden="true" />
            <div>
              <p>
                <Reference name={vote.approver ?? ""} />{" "}
                {choice && !isBlank(vote.vote) ? (
                  <strong>
                    <FieldValue field={choice} value={vote.vote} />
                  </strong>
                ) : (
                  <span className="faint">{t("approvals.awaited")}</span>
                )}
                {vote.why && <Why text={vote.why} />}
              </p>
              {vote.comment && <p className="prose">{vote.comment}</p>}
              {vote.time && (
                <time className="faint" dateTime={vote.time}>
                  {formatInstant(vote.time, language)}
                </time>
              )}
            </div>
          </li>
        ))}
        {ahead.map(({ title, state }) => (
          <li key={`ahead ${title}`}>
            <span className="feed-dot feed-dot-open" aria-hidden="true" />
            <p>
              {title}{" "}
              <span className="faint">
                {t(
                  state === "CHOOSING"
                    ? "approvals.choosing"
                    : state === "PASSED"
                      ? "approvals.passed"
                      : "approvals.ahead",
                )}
              </span>
            </p>
          </li>
        ))}
      </ol>
    </section>
  );
}
