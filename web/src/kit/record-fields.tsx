import { useState } from "react";
import { COMMON, type Field, type Resource } from "@/api/catalogue";
import type { Json, RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { UNASKED_KEYS } from "@/resources";
import { FieldValue } from "./field-value";
import { isShown } from "./form-model";
import { isBlank } from "./patch";
import { columnOf, PlainTable } from "./plain-table";

const isLines = (field: Field) =>
  field.kind === "object" &&
  field.many &&
  (field.fields.length > 2 || field.fields.some((inner) => inner.kind === "reference"));
const DATA_ONLY = new Set(["phones", "emails", "addresses", "aliases"]);

/** Lists that deserve a table of their own rather than a line in a section. */
export const lineFields = (resource: Resource, record: RecordJson) =>
  resource.fields.filter(
    (field) => isLines(field) && !DATA_ONLY.has(field.name) && !isBlank(record[field.name]),
  );

/** The fields of a record with their labels; empty ones stay out of the way until asked for. */
export function RecordFields({
  resource,
  record,
  hide = [],
}: {
  resource: Resource;
  record: RecordJson;
  hide?: string[];
}) {
  const { t, label } = useText();
  const [all, setAll] = useState(false);
  const fields = resource.fields.filter(
    (field) =>
      !COMMON.has(field.name) &&
      !hide.includes(field.name) &&
      field.name !== "digest" &&
      field.name !== "state" &&
      field.name !== resource.titleField &&
      (!isLines(field) || DATA_ONLY.has(field.name)) &&
      isShown(resource, field, record),
  );
  const filled = fields.filter(
    (field) => !isBlank(record[field.name]) && !(field.readOnly && record[field.name] === 0),
  );
  const shown = all ? fields : filled;
  return (
    <>
      <dl className="pairs">
        {shown.map((field) => (
          <div key={field.name} className={field.multiline ? "pair-wide" : ""}>
            <dt>{label(field.label)}</dt>
            <dd>
              <FieldValue field={field} value={record[field.name]} />
            </dd>
          </div>
        ))}
      </dl>
      {fields.length > filled.length && (
        <button type="button" className="link" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? t("record.hideEmpty") : t("record.showEmpty", { count: fields.length - filled.length })}
        </button>
      )}
    </>
  );
}

/** Quote lines, stages, instalments: each list as a table. */
export function LineTables({ resource, record }: { resource: Resource; record: RecordJson }) {
  const { label } = useText();
  return (
    <>
      {lineFields(resource, record).map((field) => {
        const rows = record[field.name] as Json[];
        const columns = field.fields.filter(
          (column) =>
            (column.required || !UNASKED_KEYS.has(column.name)) &&
            rows.some((row) => !isBlank(row[column.name])),
        );
        return (
          <section key={field.name} className="card">
            <div className="card-head">
              <h2>{label(field.label)}</h2>
              <span className="faint">{rows.length}</span>
            </div>
            <div className="card-body">
              <PlainTable
                caption={label(field.label)}
                rows={rows}
                keyOf={(_, index) => index}
                columns={columns.map((column) =>
                  column.kind === "object" && column.many
                    ? {
                        ...columnOf(column, label),
                        cell: (row: Json) => (
                          <Nested field={column} rows={(row[column.name] ?? []) as Json[]} />
                        ),
                      }
                    : columnOf(column, label),
                )}
              />
            </div>
          </section>
        );
      })}
    </>
  );
}

/** A list inside a line, such as the steps of its price: how many, and all of it when opened. */
function Nested({ field, rows }: { field: Field; rows: Json[] }) {
  const { label } = useText();
  if (rows.length === 0) return null;
  const columns = field.fields.filter(
    (column) => !UNASKED_KEYS.has(column.name) && rows.some((row) => !isBlank(row[column.name])),
  );
  return (
    <details className="nested-rows">
      <summary>
        {label(field.label)} ({rows.length})
      </summary>
      <PlainTable
        caption={label(field.label)}
        rows={rows}
        keyOf={(_, index) => index}
        columns={columns.map((column) => columnOf(column, label))}
      />
    </details>
  );
}
