import { Modal, Progress, Select } from "antd";
import { useState } from "react";
import type { Resource } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { editableFields } from "@/kit/form-model";
import { isBlank } from "@/kit/patch";
import { titleOf, useSession, type ListSpec } from "@/kit/queries";
import { FormField } from "@/kit/record-form";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import { changeAll, everyRecord, removeAll, useBulk } from "./bulk";

interface Props {
  resource: Resource;
  records: RecordJson[];
  spec: ListSpec;
  /** True where every loaded row is selected and there are more that are not loaded. */
  whole: boolean;
  onDone: () => void;
}

/** What can be done with the selected rows together, or with all that the filter finds. */
export function Selection({ resource, records, spec, whole, onDone }: Props) {
  const { t } = useText();
  const session = useSession();
  const [open, setOpen] = useState<"edit" | "delete">();
  const [all, setAll] = useState<RecordJson[]>();
  const [failure, setFailure] = useState("");
  const chosen = all ?? records;

  const takeAll = async () => {
    setFailure("");
    try {
      setAll(await everyRecord(resource.collection, spec));
    } catch (error) {
      setFailure(messageOf(error));
    }
  };

  return (
    <div className="selection" role="region" aria-label={t("list.selection")}>
      <strong role="status">{t("list.selected", { count: chosen.length })}</strong>
      {whole && !all && (
        <button type="button" className="link" onClick={() => void takeAll()}>
          {t("list.takeAll")}
        </button>
      )}
      {failure && <span className="field-error">{failure}</span>}
      {resource.has.batchUpdate && may(session, resource.permissions.update) && (
        <button type="button" className="button" onClick={() => setOpen("edit")}>
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
      {open === "edit" && (
        <BulkEdit resource={resource} records={chosen} onClose={() => setOpen(undefined)} onDone={onDone} />
      )}
      {open === "delete" && (
        <BulkDelete resource={resource} records={chosen} onClose={() => setOpen(undefined)} onDone={onDone} />
      )}
    </div>
  );
}

interface DialogProps {
  resource: Resource;
  records: RecordJson[];
  onClose: () => void;
  onDone: () => void;
}

/** One field for all selected records; those that refuse are listed with their reason, the others are changed. */
function BulkEdit({ resource, records, onClose, onDone }: DialogProps) {
  const { t, label, language } = useText();
  const fields = [
    ...editableFields(resource, false),
    ...resource.fields.filter((field) => field.name === "owner"),
  ].filter((field) => field.kind !== "object");
  const [name, setName] = useState<string>();
  const [value, setValue] = useState<unknown>();
  const [missing, setMissing] = useState(false);
  const field = fields.find((candidate) => candidate.name === name);
  const work = useBulk(resource, records);

  const save = async () => {
    if (!field) return;
    if (field.required && isBlank(value)) return setMissing(true);
    const refused = await work.run((part) => changeAll(resource, part, { [field.name]: value ?? null }));
    if (records.length > refused.length) tell(t("list.bulkDone", { count: records.length - refused.length }));
    if (refused.length > 0) return;
    onClose();
    onDone();
  };

  return (
    <Modal
      open
      title={t("list.bulkEdit")}
      okText={t("list.bulkApply", { count: records.length })}
      cancelText={work.ended ? t("action.close") : t("action.cancel")}
      okButtonProps={{ disabled: !field || work.ended, loading: work.busy }}
      onOk={() => void save()}
      onCancel={() => {
        onClose();
        if (work.ended) onDone();
      }}
    >
      <div className="stack">
        <p>{t("list.bulkText", { count: records.length })}</p>
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
            error={missing ? t("form.required") : undefined}
            onChange={(_, next) => {
              setValue(next);
              setMissing(false);
            }}
          />
        )}
        <Outcome work={work} resource={resource} language={language} />
      </div>
    </Modal>
  );
}

function BulkDelete({ resource, records, onClose, onDone }: DialogProps) {
  const { t, language, plural } = useText();
  const work = useBulk(resource, records);

  const run = async () => {
    const refused = await work.run(removeAll);
    if (records.length > refused.length) tell(t("list.deleted", { count: records.length - refused.length }));
    if (refused.length > 0) return;
    onClose();
    onDone();
  };

  return (
    <Modal
      open
      title={t("action.delete")}
      okText={t("list.deleteApply", { count: records.length })}
      cancelText={work.ended ? t("action.close") : t("action.cancel")}
      okButtonProps={{ danger: true, loading: work.busy, disabled: work.ended }}
      onOk={() => void run()}
      onCancel={() => {
        onClose();
        if (work.ended) onDone();
      }}
    >
      <div className="stack">
        <p>{t("list.deleteText", { count: records.length, what: plural(resource.label) })}</p>
        <Outcome work={work} resource={resource} language={language} />
      </div>
    </Modal>
  );
}

function Outcome({
  work,
  resource,
  language,
}: {
  work: ReturnType<typeof useBulk>;
  resource: Resource;
  language: string;
}) {
  const { t } = useText();
  return (
    <>
      {work.busy && (
        <Progress percent={Math.floor(work.share * 100)} status="active" aria-label={t("jobs.progress")} />
      )}
      {work.refused.length > 0 && (
        <div className="note note-bad" role="alert">
          <strong>{t("list.refused", { count: work.refused.length })}</strong>
          <ul className="refused">
            {work.refused.map(({ record, reason }) => (
              <li key={record.name}>
                {titleOf(record, resource, language)}：{reason}
              </li>
            ))}
          </ul>
        </div>
      )}
    </>
  );
}
