import { useQueryClient } from "@tanstack/react-query";
import { Modal, Progress, Select } from "antd";
import { useState } from "react";
import type { Field, Resource } from "@/api/catalogue";
import { create, list, type RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { csvOf } from "@/kit/csv";
import { toIso, type DateJson } from "@/kit/dates";
import { summaryOf } from "@/kit/field-value";
import type { Money } from "@/kit/money";
import { useCatalogue, useSession, type ListSpec } from "@/kit/queries";
import { ErrorNote } from "@/kit/states";
import { tell } from "@/kit/toasts";

interface Props {
  resource: Resource;
  columns: Field[];
  spec: ListSpec;
  onClose: () => void;
}

const PAGE = 200;
const LIMIT = 50_000;

/** The rows that the list shows, with its columns, as a file that spreadsheets read. */
export function ExportDialog({ resource, columns, spec, onClose }: Props) {
  const { t, label, plural } = useText();
  const [count, setCount] = useState<number>();
  const [error, setError] = useState<unknown>();
  const client = useQueryClient();
  const session = useSession();
  const jobs = useCatalogue().find("bulkJobs");
  const inBackground = jobs !== undefined && may(session, jobs.permissions.create);
  const [format, setFormat] = useState(inBackground ? "XLSX" : "NOW");

  /** The server writes the file: all rows, logged, there to fetch later. */
  const start = async () => {
    const options = {
      filter: spec.filter,
      q: spec.q,
      orderBy: spec.orderBy,
      fields: columns.map((column) => column.name).join(","),
      format,
    };
    try {
      await create("bulkJobs", {
        collection: resource.collection,
        mode: "EXPORT",
        options: Object.entries(options).flatMap(([key, value]) => (value ? [{ key, value }] : [])),
      });
    } catch (failure) {
      return setError(failure);
    }
    void client.invalidateQueries({ queryKey: ["list", "bulkJobs"] });
    tell(t("export.started"), "info", { detail: t("export.startedText") });
    onClose();
  };

  const run = async () => {
    setError(undefined);
    const rows: RecordJson[] = [];
    try {
      let pageToken = "";
      do {
        const page = await list(resource.collection, { ...spec, pageSize: PAGE, pageToken });
        rows.push(...page.records);
        pageToken = page.nextPageToken;
        setCount(rows.length);
      } while (pageToken && rows.length < LIMIT);
    } catch (failure) {
      setCount(undefined);
      return setError(failure);
    }
    const money = new Set(
      columns.filter((column) => column.kind === "money" && !column.many).map((column) => column.name),
    );
    const head = columns.flatMap((column) =>
      money.has(column.name)
        ? [label(column.label), `${label(column.label)} ${t("form.currency")}`]
        : [label(column.label)],
    );
    const cells = rows.map((row) =>
      columns.flatMap((column) => {
        const value = row[column.name];
        if (money.has(column.name))
          return [
            (value as Money | undefined)?.amount ?? "",
            (value as Money | undefined)?.currencyCode ?? "",
          ];
        return [cell(column, value, label)];
      }),
    );
    const address = URL.createObjectURL(
      new Blob([csvOf([head, ...cells])], { type: "text/csv;charset=utf-8" }),
    );
    const link = document.createElement("a");
    link.href = address;
    link.download = `${resource.collection}-${new Date().toISOString().slice(0, 10)}.csv`;
    link.click();
    URL.revokeObjectURL(address);
    onClose();
  };

  const running = count !== undefined;
  return (
    <Modal
      open
      title={t("action.export")}
      okText={t("export.run")}
      cancelText={t("action.cancel")}
      okButtonProps={{ loading: running }}
      onOk={() => void (format === "NOW" ? run() : start())}
      onCancel={onClose}
    >
      <div className="stack">
        <p>
          {t("export.text", {
            what: plural(resource.label),
            columns: columns.map((column) => label(column.label)).join("、"),
          })}
        </p>
        {inBackground && (
          <div className="form-field">
            <label htmlFor="export-format">{t("export.format")}</label>
            <Select
              id="export-format"
              value={format}
              onChange={setFormat}
              options={["XLSX", "CSV", "NOW"].map((value) => ({
                value,
                label: t(`export.as.${value}`),
              }))}
            />
          </div>
        )}
        {running && (
          <p role="status">
            <Progress percent={99} status="active" showInfo={false} /> {t("export.rows", { count })}
          </p>
        )}
        {error !== undefined && <ErrorNote error={error} />}
      </div>
    </Modal>
  );
}

function cell(field: Field, value: unknown, label: (text: { zh: string; en: string }) => string): string {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value))
    return value.map((item) => cell({ ...field, many: false }, item, label)).join("; ");
  const choice = field.choices.find((candidate) => candidate.value === value);
  if (choice) return label(choice.label);
  if (field.kind === "date") return toIso(value as DateJson);
  if (field.kind === "object") return summaryOf(field, value as Record<string, unknown>);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
