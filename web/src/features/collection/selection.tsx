import { Modal, Progress, Select } from "antd";
import { useState, type ReactNode } from "react";
import { useNavigate } from "react-router";
import type { Resource } from "@/api/catalogue";
import { create, type RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { screenOf } from "@/resources";
import { editableFields } from "@/kit/form-model";
import { isBlank } from "@/kit/patch";
import { titleOf, useCatalogue, useSession, type ListSpec } from "@/kit/queries";
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
      <Together resource={resource} records={chosen} />
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

/** Makes one record of another collection of all the chosen ones, and goes there. */
function Together({ resource, records }: Pick<Props, "resource" | "records">) {
  const { t } = useText();
  const session = useSession();
  const catalogue = useCatalogue();
  const navigate = useNavigate();
  const [busy, setBusy] = useState(false);
  const { together } = screenOf(resource.collection);
  const other = together && catalogue.find(together.collection);
  if (!other || !may(session, other.permissions.create)) return null;
  if (records.length < 2 || records.length > together.most) return null;
  const make = async () => {
    setBusy(true);
    try {
      const made = await create(
        together.collection,
        together.from(records.map(({ name }) => name)),
        crypto.randomUUID(),
      );
      void navigate(`/${made.name}`);
    } catch (error) {
      tell(messageOf(error), "bad");
      setBusy(false);
    }
  };
  return (
    <button type="button" className="button" disabled={busy} onClick={() => void make()}>
      {t(together.label)}
    </button>
  );
}

interface DialogProps {
  resource: Resource;
  records: RecordJson[];
  onClose: () => void;
  onDone: () => void;
}

/** One field for all selected records; those that refuse are listed with their reason, the others are changed. */
function BulkEdit(props: DialogProps) {
  const { resource, records } = props;
  const { t, label } = useText();
  const fields = [
    ...editableFields(resource, false),
    ...resource.fields.filter((field) => field.name === "owner"),
  ].filter((field) => field.kind !== "object");
  const [name, setName] = useState<string>();
  const [value, setValue] = useState<unknown>();
  const [missing, setMissing] = useState(false);
  const field = fields.find((candidate) => candidate.name === name);

  return (
    <BulkDialog
      {...props}
      title={t("list.bulkEdit")}
      text={t("list.bulkText", { count: records.length })}
      apply={t("list.bulkApply", { count: records.length })}
      ready={field !== undefined}
      done="list.bulkDone"
      check={() => {
        const blank = field?.required === true && isBlank(value);
        setMissing(blank);
        return !blank;
      }}
      change={(part) => changeAll(resource, part, { [field?.name ?? ""]: value ?? null })}
    >
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
    </BulkDialog>
  );
}

function BulkDelete(props: DialogProps) {
  const { t, plural } = useText();
  const count = props.records.length;
  return (
    <BulkDialog
      {...props}
      title={t("action.delete")}
      text={t("list.deleteText", { count, what: plural(props.resource.label) })}
      apply={t("list.deleteApply", { count })}
      danger
      done="list.deleted"
      change={removeAll}
    />
  );
}

interface BulkProps extends DialogProps {
  title: string;
  text: string;
  apply: string;
  danger?: boolean;
  ready?: boolean;
  /** The message for those that did not refuse. */
  done: string;
  /** False where something is missing. */
  check?: () => boolean;
  change: Parameters<ReturnType<typeof useBulk>["run"]>[0];
  children?: ReactNode;
}

/** Asks, does it with a bar, and stays open where some refused. */
function BulkDialog({
  resource,
  records,
  onClose,
  onDone,
  title,
  text,
  apply,
  danger = false,
  ready = true,
  done,
  check,
  change,
  children,
}: BulkProps) {
  const { t, language } = useText();
  const work = useBulk(resource, records);
  const run = async () => {
    if (check && !check()) return;
    const refused = await work.run(change);
    if (records.length > refused.length) tell(t(done, { count: records.length - refused.length }));
    if (refused.length > 0) return;
    onClose();
    onDone();
  };

  return (
    <Modal
      open
      title={title}
      okText={apply}
      cancelText={work.ended ? t("action.close") : t("action.cancel")}
      okButtonProps={{ danger, disabled: !ready || work.ended, loading: work.busy }}
      onOk={() => void run()}
      onCancel={() => {
        onClose();
        if (work.ended) onDone();
      }}
    >
      <div className="stack">
        <p>{text}</p>
        {children}
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
      </div>
    </Modal>
  );
}
