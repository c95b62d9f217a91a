import type { Field } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { FieldValue, Reference } from "@/kit/field-value";
import { isBlank } from "@/kit/patch";
import { useResource } from "@/kit/queries";
import { Empty } from "@/kit/states";

type Item = Record<string, unknown>;

/** The clauses in their order; the first that fits a customer counts. */
export function Clauses({ rule }: { rule: RecordJson }) {
  const { t } = useText();
  const fields = useResource("poolRules").fields.find(({ name }) => name === "clauses")?.fields ?? [];
  const clauses = (rule["clauses"] as Item[] | undefined) ?? [];
  if (clauses.length === 0)
    return (
      <section className="card">
        <Empty title={t("poolRule.noClause")} text={t("poolRule.noClauseText")} />
      </section>
    );
  return (
    <ol className="clauses">
      {clauses.map((clause, index) => (
        <li key={String(clause["key"])} className="card card-body">
          <h2>
            {index + 1}. {String(clause["displayName"] || clause["key"])}{" "}
            {Boolean(clause["displayName"]) && <code>{String(clause["key"])}</code>}
          </h2>
          <dl className="pairs">
            <div>
              <dt>{t("poolRule.whom")}</dt>
              <dd>
                <Condition fields={inside(fields, "when")} when={(clause["when"] ?? {}) as Item} />
              </dd>
            </div>
            <div>
              <dt>{t("poolRule.clock")}</dt>
              <dd>
                <Clocks
                  fields={inside(fields, "clocks")}
                  clocks={(clause["clocks"] as Item[] | undefined) ?? []}
                />
              </dd>
            </div>
            <div>
              <dt>{t("poolRule.then")}</dt>
              <dd>
                {clause["action"] === "NOTIFY" ? (
                  t("poolRule.notify")
                ) : (
                  <>
                    {t("poolRule.return")} <Reference name={String(clause["target"] || rule["pool"] || "")} />
                  </>
                )}
                {clause["keepRead"] === true && ` · ${t("poolRule.keepRead")}`}
              </dd>
            </div>
            {!isBlank(clause["notExempt"]) && (
              <div>
                <dt>{t("poolRule.although")}</dt>
                <dd>
                  <Values
                    field={fields.find(({ name }) => name === "notExempt")}
                    value={clause["notExempt"]}
                  />
                </dd>
              </div>
            )}
          </dl>
        </li>
      ))}
    </ol>
  );
}

const inside = (fields: Field[], name: string) => fields.find((field) => field.name === name)?.fields ?? [];

function Values({ field, value }: { field: Field | undefined; value: unknown }) {
  return field ? <FieldValue field={field} value={value} /> : null;
}

function Condition({ fields, when }: { fields: Field[]; when: Item }) {
  const { t, label } = useText();
  const given = fields.filter((field) => !isBlank(when[field.name]));
  if (given.length === 0) return <>{t("poolRule.everybody")}</>;
  return (
    <ul className="stack-small">
      {given.map((field) => (
        <li key={field.name}>
          <span className="faint">{label(field.label)}</span>{" "}
          <FieldValue field={field} value={when[field.name]} />
        </li>
      ))}
    </ul>
  );
}

function Clocks({ fields, clocks }: { fields: Field[]; clocks: Item[] }) {
  const { t } = useText();
  const kind = fields.find(({ name }) => name === "kind");
  return (
    <ul className="stack-small">
      {clocks.map((clock, index) => (
        <li key={index}>
          <Values field={kind} value={clock["kind"]} />
          {Boolean(clock["stage"]) && ` ${String(clock["stage"])}`}{" "}
          <strong>
            {clock["hours"]
              ? t("poolRule.hours", { count: Number(clock["hours"]) })
              : t(clock["workingDays"] ? "poolRule.workingDays" : "poolRule.days", {
                  count: Number(clock["days"] ?? 0),
                })}
          </strong>
        </li>
      ))}
    </ul>
  );
}
