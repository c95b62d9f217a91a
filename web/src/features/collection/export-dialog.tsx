import { Modal, Progress } from "antd";
import { useState } from "react";
import type { Field, Resource } from "@/api/catalogue";
import { list, type RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { csvOf } from "@/kit/csv";
import { toIso, type DateJson } from "@/kit/dates";
import { summaryOf } from "@/kit/field-value";
import type { Money } from "@/kit/money";
import type { ListSpec } from "@/kit/queries";
import { ErrorNote } from "@/kit/states";

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
      onOk={() => void run()}
      onCancel={onClose}
    >
      <div className="stack">
        <p>
          {t("export.text", {
            what: plural(resource.label),
            columns: columns.map((column) => label(column.label)).join("、"),
          })}
        </p>
        {running && (
          <p role="status">
            <Progress percent={99} status="active" showInfo={false} /> {t("export.rows", { count })}
          </p>
        )}
        {error !== undefined && <ErrorNote error={error} onRetry={() => void run()} />}
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
