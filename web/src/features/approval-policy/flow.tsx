import type { Field } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { Reference } from "@/kit/field-value";
import { useResource } from "@/kit/queries";

interface Way {
  source?: string;
  level?: number;
  role?: string;
  employee?: string;
  field?: string;
  candidates?: string[];
}

interface Step {
  label?: string;
  approvers?: Way[];
  mode?: string;
  quorum?: number;
  quorumPercent?: number;
  condition?: string;
  ladder?: { afterHours?: number; act?: string }[];
}

/** The steps one beneath the other: when each is taken, who decides, how, and what the clock does. */
export function Flow({ policy }: { policy: RecordJson }) {
  const { t, label } = useText();
  const fields = useResource("approvalPolicies").fields;
  const stepFields = fields.find(({ name }) => name === "steps")?.fields ?? [];
  const sources = nested(stepFields, "approvers", "source");
  const acts = nested(stepFields, "ladder", "act");
  const wordOf = (field: Field | undefined, value: string | undefined) => {
    const choice = field?.choices.find((one) => one.value === value);
    return choice ? label(choice.label) : (value ?? "");
  };
  const steps: Step[] = (policy["steps"] as Step[] | undefined) ?? [];
  const shown = steps.length > 0 ? steps : [inOneStep(policy)];
  const condition = String(policy["condition"] ?? "");
  return (
    <ol className="feed">
      <li>
        <span className="feed-dot" aria-hidden="true" />
        <p>
          <strong>{t("approvals.policy.start")}</strong>{" "}
          <span className="faint">
            {condition ? t("approvals.policy.when", { condition }) : t("approvals.policy.always")}
          </span>
        </p>
      </li>
      {shown.map((step, index) => (
        <li key={index}>
          <span className="feed-dot feed-dot-open" aria-hidden="true" />
          <div>
            <p>
              <strong>{step.label || index + 1}</strong>{" "}
              <span className="faint">
                {t(`approvals.policy.modes.${modeOf(step)}`)}
                {step.mode === "QUORUM" && ` · ${step.quorum || `${step.quorumPercent ?? 0} %`}`}
              </span>
            </p>
            {step.condition && (
              <p className="faint">{t("approvals.policy.when", { condition: step.condition })}</p>
            )}
            <ul>
              {(step.approvers ?? []).map((way, place) => (
                <li key={place}>
                  {wordOf(sources, way.source)} {way.level || ""} {way.role} {way.field}
                  {[way.employee, ...(way.candidates ?? [])].map(
                    (person) => person && <Reference key={person} name={person} />,
                  )}
                </li>
              ))}
            </ul>
            {(step.ladder ?? []).map((rung, place) => (
              <p key={place} className="faint">
                {t("approvals.policy.after", { hours: rung.afterHours ?? 0, act: wordOf(acts, rung.act) })}
              </p>
            ))}
          </div>
        </li>
      ))}
      <li>
        <span className="feed-dot" aria-hidden="true" />
        <p>{t("approvals.policy.end")}</p>
      </li>
    </ol>
  );
}

const nested = (fields: readonly Field[], list: string, name: string) =>
  fields.find((field) => field.name === list)?.fields.find((field) => field.name === name);

const MODES = ["ANY", "ALL", "SEQUENCE", "QUORUM"] as const;
const modeOf = (step: Step) => MODES.find((mode) => mode === step.mode) ?? "ANY";

/** A policy without steps asks superiors, roles and people in one. */
function inOneStep(policy: RecordJson): Step {
  const levels = Number(policy["superiorLevels"] ?? 0);
  return {
    mode: String(policy["mode"] ?? "ANY"),
    approvers: [
      ...(levels > 0 ? [{ source: "CHAIN", level: levels }] : []),
      ...((policy["roles"] as string[] | undefined) ?? []).map((role) => ({ source: "ROLE", role })),
      ...((policy["approvers"] as string[] | undefined) ?? []).map((employee) => ({
        source: "EMPLOYEE",
        employee,
      })),
    ],
  };
}
