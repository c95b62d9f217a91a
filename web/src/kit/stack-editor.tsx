import { ArrowDownOutlined, ArrowUpOutlined, CloseOutlined, PlusOutlined } from "@ant-design/icons";
import { useText } from "@/i18n";
import { FieldInput, type InputProps } from "./field-input";
import { FieldLabel } from "./field-label";
import { isAsked } from "./lines-editor";

type Item = Record<string, unknown>;

/** A list whose items hold lists themselves: each item a box of its own, in an order that one can change. */
export function StackEditor({ id, field, value, disabled = false, onChange }: InputProps) {
  const { t, label } = useText();
  const items = (value as Item[] | null | undefined) ?? [];
  const inner = field.fields.filter(isAsked);
  const put = (at: number, name: string, next: unknown) =>
    onChange(items.map((item, index) => (index === at ? { ...item, [name]: next } : item)));
  const move = (at: number, by: number) => {
    const next = [...items];
    const [item] = next.splice(at, 1);
    if (item) next.splice(at + by, 0, item);
    onChange(next);
  };
  return (
    <div className="stack-editor" id={id} role="group" aria-label={label(field.label)}>
      {items.map((item, at) => (
        <fieldset key={at} className="stack-item">
          <legend>{t("form.item", { what: label(field.label), number: at + 1 })}</legend>
          <div className="stack-tools">
            <button
              type="button"
              className="icon-button"
              disabled={disabled || at === 0}
              aria-label={t("form.moveUp", { number: at + 1 })}
              onClick={() => move(at, -1)}
            >
              <ArrowUpOutlined />
            </button>
            <button
              type="button"
              className="icon-button"
              disabled={disabled || at === items.length - 1}
              aria-label={t("form.moveDown", { number: at + 1 })}
              onClick={() => move(at, 1)}
            >
              <ArrowDownOutlined />
            </button>
            <button
              type="button"
              className="icon-button"
              disabled={disabled}
              aria-label={t("form.removeItem", { what: label(field.label), number: at + 1 })}
              onClick={() => onChange(items.filter((_, index) => index !== at))}
            >
              <CloseOutlined />
            </button>
          </div>
          <div className="form-grid">
            {inner.map((one) => (
              <div
                key={one.name}
                className={`form-field ${one.kind === "object" || one.multiline ? "form-field-wide" : ""}`}
              >
                <FieldLabel id={`${id}.${at}.${one.name}`} field={one} />
                <FieldInput
                  id={`${id}.${at}.${one.name}`}
                  field={one}
                  value={item[one.name]}
                  disabled={disabled}
                  onChange={(next) => put(at, one.name, next)}
                />
              </div>
            ))}
          </div>
        </fieldset>
      ))}
      {!disabled && (
        <button type="button" className="button" onClick={() => onChange([...items, {}])}>
          <PlusOutlined aria-hidden="true" /> {t("form.addItem", { what: label(field.label) })}
        </button>
      )}
    </div>
  );
}
