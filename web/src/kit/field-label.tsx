import type { Field } from "@/api/catalogue";
import { useText } from "@/i18n";
import { isParties } from "./form-model";

/** What a field is called, tied to its input; a field of several inputs names their group itself. */
export function FieldLabel({ id, field }: { id: string; field: Field }) {
  const { label } = useText();
  const text = (
    <>
      {label(field.label)}
      {field.required && (
        <span className="required" aria-hidden="true">
          {" "}
          *
        </span>
      )}
    </>
  );
  return field.kind === "object" && !isParties(field) ? (
    <span className="field-label" aria-hidden="true">
      {text}
    </span>
  ) : (
    <label className="field-label" htmlFor={id}>
      {text}
    </label>
  );
}
