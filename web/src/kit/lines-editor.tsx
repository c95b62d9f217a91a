import { CloseOutlined, PlusOutlined } from "@ant-design/icons";
import { useQuery } from "@tanstack/react-query";
import { Select } from "antd";
import type { ClipboardEvent, KeyboardEvent } from "react";
import type { Field } from "@/api/catalogue";
import { useText } from "@/i18n";
import { ScrollBox } from "./scroll-box";
import { FieldInput, type InputProps } from "./field-input";
import { isComposing } from "./keyboard";
import { recordQuery } from "./queries";
import { LINE_KEYS, UNASKED_KEYS } from "@/resources";
import { addAmounts, formatMoney, multiply, placesOf, type Money } from "./money";

type Line = Record<string, unknown>;

/** Whether a person fills it in, as opposed to what the platform writes or what only ties a line to its origin. */
export const isAsked = (field: Field) =>
  (field.required || !UNASKED_KEYS.has(field.name)) && !field.readOnly && field.kind !== "free";

const isPriced = (field: Field) =>
  field.fields.some((column) => column.name === "quantity") &&
  field.fields.some((column) => column.kind === "money" && isAsked(column));

const isList = (field: Field) => field.kind === "object" && field.many;

/** Whether the items of a list are too much for a row: they hold lists. What has a price stays a row of a grid. */
export const isDeep = (field: Field) =>
  field.fields.some((inner) => isList(inner) && isAsked(inner)) &&
  !field.fields.some((inner) => inner.kind === "money");

/** A list of messages as a grid: Tab moves on, Enter goes down, rows come from a spreadsheet by paste. */
export function LinesEditor({ id, field, value, disabled, onChange }: InputProps) {
  const { t, label } = useText();
  const lines = (value as Line[] | null | undefined) ?? [];
  const columns = field.fields.filter((inner) => isAsked(inner) && !isList(inner));
  const priced = isPriced(field);

  const put = (row: number, name: string, next: unknown) =>
    onChange(lines.map((line, index) => (index === row ? { ...line, [name]: next } : line)));

  const paste = (event: ClipboardEvent, row: number, column: number) => {
    const cells = event.clipboardData
      .getData("text/plain")
      .replace(/\r?\n$/, "")
      .split(/\r?\n/)
      .map((line) => line.split("\t"));
    if (cells.length === 1 && cells[0]?.length === 1) return;
    event.preventDefault();
    const next = [...lines];
    cells.forEach((texts, down) => {
      const target: Line = { ...next[row + down] };
      texts.forEach((text, right) => {
        const into = columns[column + right];
        if (into) Object.assign(target, { [into.name]: pasted(into, text.trim()) });
      });
      next[row + down] = target;
    });
    onChange(next);
  };

  const press = (event: KeyboardEvent, row: number, column: number) => {
    if (event.key !== "Enter" || isComposing(event.nativeEvent)) return;
    if ((event.target as HTMLElement).closest("[role=combobox], textarea, button, .ant-picker, .ant-select"))
      return;
    event.preventDefault();
    if (row === lines.length - 1) onChange([...lines, {}]);
    const below = `${id}.${row + 1}.${columns[column]?.name ?? ""}`;
    requestAnimationFrame(() => document.getElementById(below)?.focus());
  };

  return (
    <div className="lines" id={id} role="group" aria-label={label(field.label)}>
      {lines.length > 0 && (
        <ScrollBox label={label(field.label)}>
          <table>
            <caption className="visually-hidden">{label(field.label)}</caption>
            <thead>
              <tr>
                {columns.map((column) => (
                  <th key={column.name} scope="col" style={{ minWidth: widthOf(column) }}>
                    {label(column.label)}
                    {column.required && (
                      <span className="required" aria-hidden="true">
                        {" "}
                        *
                      </span>
                    )}
                  </th>
                ))}
                {priced && (
                  <th scope="col" className="number">
                    {t("form.lineTotal")}
                  </th>
                )}
                <th scope="col">
                  <span className="visually-hidden">{t("action.remove")}</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {lines.map((line, row) => (
                <tr key={row}>
                  {columns.map((column, index) => (
                    <td
                      key={column.name}
                      onPaste={(event) => paste(event, row, index)}
                      onKeyDown={(event) => press(event, row, index)}
                    >
                      <label className="visually-hidden" htmlFor={`${id}.${row}.${column.name}`}>
                        {label(column.label)} {row + 1}
                      </label>
                      <Cell
                        id={`${id}.${row}.${column.name}`}
                        field={column}
                        line={line}
                        disabled={disabled ?? false}
                        onChange={(next) => put(row, column.name, next)}
                      />
                    </td>
                  ))}
                  {priced && <td className="number">{<LineTotal line={line} columns={columns} />}</td>}
                  <td>
                    <button
                      type="button"
                      className="icon-button"
                      disabled={disabled}
                      aria-label={t("form.removeLine", { line: row + 1 })}
                      onClick={() => onChange(lines.filter((_, index) => index !== row))}
                    >
                      <CloseOutlined />
                    </button>
                  </td>
                </tr>
              ))}
            </tbody>
            {priced && lines.length > 1 && <Totals lines={lines} columns={columns} />}
          </table>
        </ScrollBox>
      )}
      {!disabled && (
        <button type="button" className="button" onClick={() => onChange([...lines, {}])}>
          <PlusOutlined aria-hidden="true" /> {t("form.addLine")}
        </button>
      )}
    </div>
  );
}

function Cell({ line, ...props }: Omit<InputProps, "value"> & { line: Line }) {
  const link = LINE_KEYS[props.field.name];
  const value = line[props.field.name];
  const holder = link && line[link.through];
  return link && typeof holder === "string" && holder ? (
    <LineKeyInput {...props} value={value} holder={holder} list={link.list} />
  ) : (
    <FieldInput {...props} value={value} />
  );
}

/** Chooses a line of another record by what it says, not by its key. */
function LineKeyInput({
  id,
  value,
  disabled,
  holder,
  list,
  onChange,
}: InputProps & { holder: string; list: string }) {
  const { t } = useText();
  const record = useQuery(recordQuery(holder));
  const items = (record.data?.[list] ?? []) as Record<string, unknown>[];
  return (
    <Select
      id={id}
      style={{ width: "100%" }}
      value={value === "" ? undefined : value}
      disabled={disabled ?? false}
      loading={record.isPending}
      placeholder={t("form.choose")}
      options={items.map((item) => ({
        value: item["key"],
        label: String(item["description"] || item["displayName"] || item["key"]),
      }))}
      onChange={onChange}
    />
  );
}

function totalOf(line: Line, columns: Field[]): Money | null {
  const priceField =
    columns.find((column) => column.kind === "money" && /price/i.test(column.name)) ??
    columns.find((column) => column.kind === "money");
  const price = priceField && (line[priceField.name] as Money | null | undefined);
  const quantity = String(line["quantity"] ?? "");
  if (!price?.amount || !/^\d+(\.\d+)?$/.test(quantity)) return null;
  return {
    currencyCode: price.currencyCode,
    amount: multiply(quantity, price.amount, placesOf(price.currencyCode)),
  };
}

function LineTotal({ line, columns }: { line: Line; columns: Field[] }) {
  const { language } = useText();
  return <>{formatMoney(totalOf(line, columns), language)}</>;
}

function Totals({ lines, columns }: { lines: Line[]; columns: Field[] }) {
  const { t, language } = useText();
  const totals = lines.map((line) => totalOf(line, columns)).filter((total) => total !== null);
  const currency = totals[0]?.currencyCode ?? "CNY";
  // Amounts of different currencies never add up.
  if (totals.length === 0 || totals.some((total) => total.currencyCode !== currency)) return null;
  const sum = { currencyCode: currency, amount: addAmounts(totals.map((total) => total.amount)) };
  return (
    <tfoot>
      <tr>
        <td colSpan={columns.length}>{t("form.total")}</td>
        <td className="number">{formatMoney(sum, language)}</td>
        <td />
      </tr>
    </tfoot>
  );
}

function pasted(field: Field, text: string): unknown {
  if (field.kind === "money")
    return text ? { currencyCode: "CNY", amount: text.replace(/[,，¥￥\s]/g, "") } : null;
  if (field.kind === "integer" || field.kind === "decimal")
    return text ? Number(text.replaceAll(",", "")) : null;
  if (field.kind === "boolean") return /^(1|true|yes|是|y)$/i.test(text);
  return text;
}

const widthOf = (field: Field) =>
  (
    ({ reference: 220, money: 190, date: 150, instant: 190, integer: 100, boolean: 70 }) as Record<
      string,
      number
    >
  )[field.kind] ?? 140;
