import { Modal, Radio } from "antd";
import { useState } from "react";
import type { Json } from "@/api/client";
import type { Field, Resource } from "@/api/catalogue";
import { useText } from "@/i18n";
import type { Conflict } from "./conflict";
import { FieldValue } from "./field-value";
import { PlainTable } from "./plain-table";

interface Props {
  resource: Resource;
  conflicts: Conflict[];
  onResolve: (choices: Json) => void;
  onEdit: () => void;
}

/** Both sides changed the same fields: base, mine and theirs stand side by side and the person decides. */
export function ConflictDialog({ resource, conflicts, onResolve, onEdit }: Props) {
  const { t, label } = useText();
  const [sides, setSides] = useState<Record<string, "mine" | "theirs">>({});
  const sideOf = (conflict: Conflict) => sides[conflict.field] ?? "mine";
  const all = (side: "mine" | "theirs") =>
    setSides(Object.fromEntries(conflicts.map(({ field }) => [field, side])));

  return (
    <Modal
      open
      width={820}
      title={t("conflict.title")}
      okText={t("conflict.save")}
      cancelText={t("conflict.edit")}
      onOk={() =>
        onResolve(
          Object.fromEntries(conflicts.map((conflict) => [conflict.field, conflict[sideOf(conflict)]])),
        )
      }
      onCancel={onEdit}
    >
      <p>{t("conflict.text")}</p>
      <div className="row conflict-all">
        <button type="button" className="button" onClick={() => all("mine")}>
          {t("conflict.keepMine")}
        </button>
        <button type="button" className="button" onClick={() => all("theirs")}>
          {t("conflict.takeTheirs")}
        </button>
      </div>
      <PlainTable
        caption={t("conflict.title")}
        rows={conflicts.flatMap((conflict) => {
          const field = resource.fields.find(({ name }) => name === conflict.field);
          return field ? [{ conflict, field }] : [];
        })}
        keyOf={({ field }) => field.name}
        columns={[
          { key: "field", title: t("conflict.field"), row: true, cell: ({ field }) => label(field.label) },
          {
            key: "base",
            title: t("conflict.base"),
            cell: ({ conflict, field }) => <FieldValue field={field} value={conflict.base} links={false} />,
          },
          ...(["mine", "theirs"] as const).map((side) => ({
            key: side,
            title: t(`conflict.${side}`),
            cell: ({ conflict, field }: { conflict: Conflict; field: Field }) => (
              <Radio
                checked={sideOf(conflict) === side}
                onChange={() => setSides({ ...sides, [conflict.field]: side })}
                aria-label={`${label(field.label)} ${t(`conflict.${side}`)}`}
              >
                <FieldValue field={field} value={conflict[side]} links={false} />
              </Radio>
            ),
          })),
        ]}
      />
    </Modal>
  );
}
