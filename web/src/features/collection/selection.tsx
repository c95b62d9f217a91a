import { useQueryClient } from "@tanstack/react-query";
import { Modal, Select } from "antd";
import { useState } from "react";
import type { Resource } from "@/api/catalogue";
import { batchUpdate, remove, type RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { editableFields } from "@/kit/form-model";
import { titleOf, useSession } from "@/kit/queries";
import { FormField } from "@/kit/record-form";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";

const AT_ONCE = 100;

interface Props {
  resource: Resource;
  records: RecordJson[];
  onDone: () => void;
}

/** What can be done with the selected rows together. */
export function Selection({ resource, records, onDone }: Props) {
  const { t } = useText();
  const session = useSession();
  const [open, setOpen] = useState<"edit" | "delete">();
  return (
    <div className="selection" role="region" aria-label={t("list.selection")}>
      <strong>{t("list.selected", { count: records.length })}</strong>
      {resource.has.batchUpdate && may(session, resource.permissions.update) && (
        <button
          type="button"
          className="button"
          disabled={records.length > AT_ONCE}
          onClick={() => setOpen("edit")}
        >
          {t("list.bulkEdit")}
        </button>
      )}
      {resource.has.delete && may(session, resource.permissions.delete) && (
        <button type="button" className="button" onClick={() => setOpen("delete")}>
          {t("action.delete")}
        </button>
      )}
      <button type="button" className="link" onClick={onDone}>
        {t("list.unselect")}
      </button>
      {records.length > AT_ONCE && <span className="faint">{t("list.atMost", { count: AT_ONCE })}</span>}
      {open === "edit" && (
        <BulkEdit resource={resource} records={records} onClose={() => setOpen(undefined)} onDone={onDone} />
      )}
      {open === "delete" && (
        <BulkDelete
          resource={resource}
          records={records}
          onClose={() => setOpen(undefined)}
          onDone={onDone}
        />
      )}
    </div>
  );
}

interface DialogProps extends Props {
  onClose: () => void;
}

/** One field for all selected records, in one transaction. */
function BulkEdit({ resource, records, onClose, onDone }: DialogProps) {
  const { t, label } = useText();
  const client = useQueryClient();
  const fields = [
    ...editableFields(resource, false),
    ...resource.fields.filter((field) => field.name === "owner"),
  ].filter((field) => field.kind !== "object");
  const [name, setName] = useState<string>();
  const [value, setValue] = useState<unknown>();
  const [failure, setFailure] = useState("");
  const [busy, setBusy] = useState(false);
  const field = fields.find((candidate) => candidate.name === name);

  const save = async () => {
    if (!field) return;
    setBusy(true);
    try {
      await batchUpdate(
        resource.collection,
        records.map((record) => ({ record, body: { [field.name]: value ?? null } })),
        resource.singular,
      );
      tell(t("list.bulkDone", { count: records.length }));
      onClose();
      onDone();
    } catch (error) {
      setFailure(messageOf(error));
    } finally {
      setBusy(false);
      void client.invalidateQueries({ queryKey: ["list", resource.collection] });
    }
  };

  return (
    <Modal
      open
      title={t("list.bulkEdit")}
      okText={t("list.bulkApply", { count: records.length })}
      cancelText={t("action.cancel")}
      okButtonProps={{ disabled: !field, loading: busy }}
      onOk={() => void save()}
      onCancel={onClose}
    >
      <div className="stack">
        <p>{t("list.bulkText", { count: records.length })}</p>
        {failure && (
          <p className="note note-bad" role="alert">
            {failure}
          </p>
        )}
        <div className="form-field">
          <label htmlFor="bulk-field">{t("filter.field")}</label>
          <Select
            id="bulk-field"
            showSearch={{ optionFilterProp: "label" }}
            value={name}
            options={fields.map((candidate) => ({ value: candidate.name, label: label(candidate.label) }))}
            onChange={(next: string) => {
              setName(next);
              setValue(undefined);
            }}
          />
        </div>
        {field && (
          <FormField
            id="bulk-value"
            field={field}
            value={value}
            error={undefined}
            onChange={(_, next) => setValue(next)}
          />
        )}
      </div>
    </Modal>
  );
}

function BulkDelete({ resource, records, onClose, onDone }: DialogProps) {
  const { t, language, plural } = useText();
  const client = useQueryClient();
  const [busy, setBusy] = useState(false);
  const [refused, setRefused] = useState<{ title: string; reason: string }[]>([]);

  const run = async () => {
    setBusy(true);
    const failures: { title: string; reason: string }[] = [];
    for (const record of records)
      await remove(record.name, record.etag).catch((error: unknown) =>
        failures.push({ title: titleOf(record, resource, language), reason: messageOf(error) }),
      );
    setBusy(false);
    void client.invalidateQueries({ queryKey: ["list", resource.collection] });
    void client.invalidateQueries({ queryKey: ["aggregate", resource.collection] });
    if (records.length > failures.length)
      tell(t("list.deleted", { count: records.length - failures.length }));
    if (failures.length > 0) return setRefused(failures);
    onClose();
    onDone();
  };

  return (
    <Modal
      open
      title={t("action.delete")}
      okText={t("list.deleteApply", { count: records.length })}
      cancelText={t("action.cancel")}
      okButtonProps={{ danger: true, loading: busy, disabled: refused.length > 0 }}
      onOk={() => void run()}
      onCancel={() => {
        onClose();
        if (refused.length > 0) onDone();
      }}
    >
      <p>{t("list.deleteText", { count: records.length, what: plural(resource.label) })}</p>
      {refused.length > 0 && (
        <div className="note note-bad" role="alert">
          <strong>{t("list.refused", { count: refused.length })}</strong>
          <ul>
            {refused.map((row) => (
              <li key={row.title}>
                {row.title}：{row.reason}
              </li>
            ))}
          </ul>
        </div>
      )}
    </Modal>
  );
}
