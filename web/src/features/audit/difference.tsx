import type { RecordJson } from "@/api/client";
import { splitName } from "@/api/client";
import { useText } from "@/i18n";
import { FieldValue } from "@/kit/field-value";
import { valuesOf } from "@/kit/history";
import { isBlank, same } from "@/kit/patch";
import { PlainTable } from "@/kit/plain-table";
import { useCatalogue } from "@/kit/queries";

interface Guarded {
  before?: string;
  after?: string;
}

/** What a record was before and is after, field by field, side by side. */
export function Difference({ entry }: { entry: RecordJson }) {
  const { t, label } = useText();
  const resource = useCatalogue().find(splitName(String(entry["resource"] ?? "")).collection);
  const parts = [entry, ...((entry["guarded"] ?? []) as Guarded[])];
  const gather = (side: "before" | "after") =>
    Object.assign({}, ...parts.map((part) => valuesOf(part[side]))) as Record<string, unknown>;
  const [before, after] = [gather("before"), gather("after")];
  const rows = Object.keys({ ...before, ...after })
    .filter((name) => !same(before[name], after[name]))
    .toSorted();
  if (rows.length === 0) return <p className="faint">{t("audit.noFields")}</p>;
  const cell = (name: string, value: unknown) => {
    const field = resource?.fields.find((one) => one.name === name);
    if (field) return <FieldValue field={field} value={value} links={false} />;
    return isBlank(value) ? <span className="faint">—</span> : <code>{plain(value)}</code>;
  };
  return (
    <PlainTable
      caption={t("audit.difference")}
      className="difference"
      rows={rows}
      keyOf={(name) => name}
      columns={[
        {
          key: "field",
          title: t("audit.field"),
          row: true,
          cell: (name) => {
            const field = resource?.fields.find((one) => one.name === name);
            return field ? label(field.label) : name;
          },
        },
        { key: "before", title: t("audit.before"), cell: (name) => <del>{cell(name, before[name])}</del> },
        { key: "after", title: t("audit.after"), cell: (name) => <ins>{cell(name, after[name])}</ins> },
      ]}
    />
  );
}

const plain = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value, null, 1));
