import { useEffect, useRef, useState, type FocusEvent, type KeyboardEvent } from "react";
import type { Field } from "@/api/catalogue";
import { update, type RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { FieldInput } from "./field-input";
import { isComposing } from "./keyboard";
import { isBlank, same } from "./patch";
import { messageOf } from "./verbs";

interface Props {
  record: RecordJson;
  field: Field;
  /** Called when the cell is left: with the next cell to edit, or none. */
  onLeave: (next: "next" | "previous" | "row") => void;
}

/** Kinds whose value is taken as soon as it is chosen. */
const CHOSEN = new Set<Field["kind"]>([
  "choice",
  "dictionary",
  "reference",
  "date",
  "day",
  "instant",
  "boolean",
]);

/** One value changed in the list: Enter and Tab save, Escape leaves all as it was, a refusal is told at the cell. */
export function CellEditor({ record, field, onLeave }: Props) {
  const { t, label } = useText();
  const box = useRef<HTMLDivElement>(null);
  const [value, setValue] = useState<unknown>(record[field.name]);
  const [failure, setFailure] = useState("");
  const [saving, setSaving] = useState(false);
  const done = useRef(false);

  useEffect(() => {
    const input = box.current?.querySelector<HTMLInputElement>("input, textarea, [role=combobox], button");
    input?.focus();
    if (input instanceof HTMLInputElement && !CHOSEN.has(field.kind)) input.select();
  }, [field.kind]);

  const leave = (next: "next" | "previous" | "row") => {
    done.current = true;
    onLeave(next);
  };

  const save = async (wanted: unknown, next: "next" | "previous" | "row") => {
    if (done.current || saving) return;
    if (same(wanted, record[field.name])) return leave(next);
    if (field.required && isBlank(wanted)) return setFailure(t("form.required"));
    setSaving(true);
    try {
      await update(record.name, { [field.name]: isBlank(wanted) ? null : wanted }, record.etag);
      leave(next);
    } catch (error) {
      setFailure(messageOf(error));
      setValue(record[field.name]);
    } finally {
      setSaving(false);
    }
  };

  const press = (event: KeyboardEvent) => {
    event.stopPropagation();
    if (isComposing(event.nativeEvent)) return;
    const choosing = (event.target as HTMLElement).getAttribute("aria-expanded") === "true";
    if (event.key === "Escape") {
      event.preventDefault();
      leave("row");
    } else if (event.key === "Enter" && !choosing && !CHOSEN.has(field.kind)) {
      event.preventDefault();
      void save(value, "row");
    } else if (event.key === "Tab") {
      event.preventDefault();
      void save(value, event.shiftKey ? "previous" : "next");
    }
  };

  const blur = (event: FocusEvent) => {
    const into = event.relatedTarget;
    if (
      into instanceof HTMLElement &&
      (box.current?.contains(into) || into.closest(".ant-select-dropdown, .ant-picker-dropdown"))
    )
      return;
    if (!CHOSEN.has(field.kind) && into) void save(value, "row");
  };

  return (
    // eslint-disable-next-line jsx-a11y/no-static-element-interactions -- the keys belong to the control inside
    <div className="cell-editor" ref={box} onKeyDown={press} onBlur={blur} aria-busy={saving}>
      <label className="visually-hidden" htmlFor="cell-input">
        {label(field.label)}
      </label>
      <FieldInput
        id="cell-input"
        field={field}
        value={value}
        invalid={failure !== ""}
        describedBy={failure ? "cell-error" : undefined}
        onChange={(next) => {
          setValue(next);
          setFailure("");
          if (CHOSEN.has(field.kind)) void save(next, "row");
        }}
      />
      {failure && (
        <p className="cell-error" id="cell-error" role="alert">
          {failure}
        </p>
      )}
    </div>
  );
}
