import type { RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { Countdown } from "@/kit/countdown";
import { formatInstant } from "@/kit/dates";
import { Reference } from "@/kit/field-value";
import { useCatalogue } from "@/kit/queries";

/** Where the customer stands towards the public sea: in it, on the way, or held out of it. */
export function SeaNote({ record }: { record: RecordJson }) {
  const { t, language, label } = useText();
  const clauses = useCatalogue()
    .find("poolRules")
    ?.fields.find(({ name }) => name === "clauses")?.fields;
  const exemptions = clauses?.find(({ name }) => name === "notExempt")?.choices ?? [];
  const due = String(record["seaDueTime"] ?? "");
  const exempt = exemptions.find(({ value }) => value === record["seaExemption"]);
  if (record["state"] === "POOLED")
    return (
      <p className="banner" role="status">
        {t("sea.pooled")} <Reference name={String(record["pool"] ?? "")} />
      </p>
    );
  if (exempt && !due)
    return (
      <p className="sea-note faint">
        <span className="tag tag-good">{t("sea.exempt")}</span> {label(exempt.label)}
      </p>
    );
  if (!due) return null;
  return (
    <p className="sea-note">
      <Countdown until={due} />{" "}
      <span className="faint">
        {t("sea.returns", { time: formatInstant(due, language) })}
        {Boolean(record["seaClause"]) && ` · ${t("sea.byClause", { clause: record["seaClause"] })}`}
      </span>
    </p>
  );
}
