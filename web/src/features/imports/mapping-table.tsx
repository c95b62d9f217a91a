import { Select } from "antd";
import type { Field } from "@/api/catalogue";
import { useText } from "@/i18n";
import { PlainTable } from "@/kit/plain-table";
import type { Mapping } from "./mapping";

interface MappingProps {
  columns: string[];
  fields: Field[];
  mapping: Mapping;
  onChange: (mapping: Mapping) => void;
}

/** Which column of the file goes to which field. */
export function MappingTable({ columns, fields, mapping, onChange }: MappingProps) {
  const { t, label, comma } = useText();
  const missing = fields.filter((field) => field.required && !Object.values(mapping).includes(field.name));
  return (
    <>
      {columns.length === 0 && <p className="faint">{t("import.serverReads")}</p>}
      <PlainTable
        caption={t("import.step.mapping")}
        className="mapping"
        rows={columns}
        keyOf={(column) => column}
        columns={[
          { key: "column", title: t("import.column"), row: true, cell: (column) => column },
          {
            key: "field",
            title: t("import.field"),
            cell: (column) => (
              <Select
                aria-label={column}
                allowClear
                showSearch={{ optionFilterProp: "label" }}
                placeholder={t("import.ignored")}
                value={mapping[column]}
                options={fields.map((field) => ({ value: field.name, label: label(field.label) }))}
                onChange={(field?: string) => {
                  const { [column]: _, ...rest } = mapping;
                  onChange(field ? { ...rest, [column]: field } : rest);
                }}
              />
            ),
          },
        ]}
      />
      {missing.length > 0 && (
        <p className="note note-info">
          {t("import.missing", { fields: missing.map((field) => label(field.label)).join(comma) })}
        </p>
      )}
    </>
  );
}
