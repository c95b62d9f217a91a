import { Select } from "antd";
import { useState } from "react";
import type { Field } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { useDictionary } from "@/kit/dictionary";
import { PlainTable } from "@/kit/plain-table";

type Proposal = Schema<"customer.Import.Proposal">;
type Mapped = Schema<"customer.Import.ColumnMapping">;

interface Props {
  record: RecordJson;
  /** The field that a column of the file goes to. */
  fieldOf: (column: string) => Field | undefined;
  busy: boolean;
  onTake: (mapping: Mapped[]) => void;
}

const keyOf = ({ column, text }: Proposal) => JSON.stringify([column, text]);

/** Texts of the file that no choice of their field is: the likest one is proposed, and whoever imports decides. */
export function Proposals({ record, fieldOf, busy, onTake }: Props) {
  const { t } = useText();
  const proposals = (record["proposals"] ?? []) as Proposal[];
  const [chosen, setChosen] = useState<Record<string, string>>({});
  if (proposals.length === 0) return null;
  const meant = (one: Proposal) => chosen[keyOf(one)] ?? one.value ?? "";
  const take = () =>
    onTake(
      ((record["mapping"] ?? []) as Mapped[]).map((mapped) => ({
        ...mapped,
        replacements: [
          ...(mapped.replacements ?? []),
          ...proposals
            .filter((one) => one.column === mapped.column && meant(one))
            .map((one) => ({ text: one.text ?? "", value: meant(one) })),
        ],
      })),
    );
  return (
    <>
      <h3>{t("import.proposals")}</h3>
      <p className="faint">{t("import.proposalsText")}</p>
      <PlainTable
        caption={t("import.proposals")}
        rows={proposals}
        keyOf={keyOf}
        stacked
        columns={[
          { key: "column", title: t("import.column"), cell: ({ column }) => column },
          { key: "text", title: t("import.said"), row: true, cell: ({ text }) => text },
          { key: "rows", title: t("import.rows"), number: true, cell: ({ rows }) => rows },
          {
            key: "value",
            title: t("import.readAs"),
            cell: (one) => (
              <Meaning
                label={`${t("import.readAs")} ${one.text ?? ""}`}
                field={fieldOf(one.column ?? "")}
                value={meant(one)}
                onChange={(value) => setChosen((before) => ({ ...before, [keyOf(one)]: value }))}
              />
            ),
          },
        ]}
      />
      <div>
        <button
          type="button"
          className="button"
          disabled={busy || !proposals.some((one) => meant(one))}
          onClick={take}
        >
          {t("import.takeUp")}
        </button>
      </div>
    </>
  );
}

/** The choices of the field, as a file may say them. */
function Meaning(props: {
  label: string;
  field: Field | undefined;
  value: string;
  onChange: (value: string) => void;
}) {
  const { t, label } = useText();
  const entries = useDictionary(props.field?.dictionary ?? "");
  const words = new Set([
    ...entries.map((entry) => entry.label),
    ...(props.field?.choices ?? []).map((choice) => label(choice.label)),
    ...(props.value ? [props.value] : []),
  ]);
  return (
    <Select
      aria-label={props.label}
      allowClear
      showSearch
      style={{ minWidth: 180 }}
      placeholder={t("import.leftOut")}
      value={props.value || null}
      options={[...words].map((value) => ({ value, label: value }))}
      onChange={(value: string | null) => props.onChange(value ?? "")}
    />
  );
}
