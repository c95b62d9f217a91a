import type { Resource } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { screenOf } from "@/resources";
import { Countdown } from "./countdown";
import { toIso, type DateJson } from "./dates";
import { isBlank } from "./patch";

/** The way that a record goes through its states, and what runs out while it stands where it stands. */
export function StatePath({ resource, record }: { resource: Resource; record: RecordJson }) {
  const { label } = useText();
  const { path = [], clocks = [] } = screenOf(resource.collection);
  const state = resource.fields.find(({ name }) => name === "state");
  const at = path.indexOf(String(record["state"]));
  const running = clocks.flatMap(({ field: name, states }) => {
    const field = resource.fields.find((one) => one.name === name);
    return field && states.includes(String(record["state"])) && !isBlank(record[name]) ? [field] : [];
  });
  if (at < 0 && running.length === 0) return null;
  return (
    <div className="state-path">
      {at >= 0 && state && (
        <ol className="steps" aria-label={label(state.label)}>
          {path.map((value, index) => (
            <li
              key={value}
              aria-current={index === at ? "step" : undefined}
              className={index < at ? "step-seen" : ""}
            >
              {label(
                state.choices.find((choice) => choice.value === value)?.label ?? { zh: value, en: value },
              )}
            </li>
          ))}
        </ol>
      )}
      {running.map((field) => (
        <span key={field.name} className="row">
          <span className="faint">{label(field.label)}</span>
          <Countdown until={endOf(record[field.name])} />
        </span>
      ))}
    </div>
  );
}

/** An instant as it is; a day lasts until its end. */
const endOf = (value: unknown) =>
  typeof value === "string" ? value : `${toIso(value as DateJson)}T23:59:59`;
