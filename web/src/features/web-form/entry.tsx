import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";

const INPUTS: Record<string, { type: string; autoComplete: string }> = {
  PHONE: { type: "tel", autoComplete: "tel" },
  EMAIL: { type: "email", autoComplete: "email" },
};

interface Props {
  field: Schema<"marketing.Form.Field">;
  value: string;
  error: string | undefined;
  onChange: (value: string) => void;
}

/** One field of a public form, with the browser's own controls: the page stays light. */
export function Entry({ field, value, error, onChange }: Props) {
  const { t } = useText();
  const id = `entry-${field.key}`;
  const shared = {
    id,
    value,
    className: "public-input",
    "aria-required": field.required ?? false,
    "aria-invalid": Boolean(error),
    "aria-describedby": error ? `${id}-error` : undefined,
  };
  return (
    <div className="form-field">
      <label htmlFor={id}>
        {field.label}
        {field.required && (
          <span className="required" aria-hidden="true">
            {" "}
            *
          </span>
        )}
      </label>
      {field.type === "LONG_TEXT" ? (
        <textarea {...shared} rows={4} onChange={(event) => onChange(event.target.value)} />
      ) : field.type === "CHOICE" ? (
        <select {...shared} onChange={(event) => onChange(event.target.value)}>
          <option value="">{t("form.choose")}</option>
          {(field.choices ?? []).map((choice) => (
            <option key={choice}>{choice}</option>
          ))}
        </select>
      ) : (
        <input {...shared} {...INPUTS[field.type ?? ""]} onChange={(event) => onChange(event.target.value)} />
      )}
      {error && (
        <p className="field-error" id={`${id}-error`}>
          {error}
        </p>
      )}
    </div>
  );
}
