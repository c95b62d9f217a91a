import { Modal, Radio } from "antd";
import { useState } from "react";
import type { Json } from "@/api/client";
import type { Resource } from "@/api/catalogue";
import { useText } from "@/i18n";
import type { Conflict } from "./conflict";
import { FieldValue } from "./field-value";

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
      <div className="lines-scroll">
        <table className="plain">
          <caption className="visually-hidden">{t("conflict.title")}</caption>
          <thead>
            <tr>
              <th scope="col">{t("conflict.field")}</th>
              <th scope="col">{t("conflict.base")}</th>
              <th scope="col">{t("conflict.mine")}</th>
              <th scope="col">{t("conflict.theirs")}</th>
            </tr>
          </thead>
          <tbody>
            {conflicts.map((conflict) => {
              const field = resource.fields.find(({ name }) => name === conflict.field);
              if (!field) return null;
              return (
                <tr key={conflict.field}>
                  <th scope="row">{label(field.label)}</th>
                  <td>
                    <FieldValue field={field} value={conflict.base} links={false} />
                  </td>
                  {(["mine", "theirs"] as const).map((side) => (
                    <td key={side}>
                      <Radio
                        checked={sideOf(conflict) === side}
                        onChange={() => setSides({ ...sides, [conflict.field]: side })}
                        aria-label={`${label(field.label)} ${t(`conflict.${side}`)}`}
                      >
                        <FieldValue field={field} value={conflict[side]} links={false} />
                      </Radio>
                    </td>
                  ))}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </Modal>
  );
}
