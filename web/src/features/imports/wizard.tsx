import { useQuery } from "@tanstack/react-query";
import { Progress, Select, Steps } from "antd";
import { useState } from "react";
import { Link, useNavigate, useParams } from "react-router";
import { act, create, request, update, type RecordJson } from "@/api/client";
import { ApiError } from "@/api/errors";
import { useText } from "@/i18n";
import { editableFields } from "@/kit/form-model";
import { Page } from "@/kit/page";
import { recordQuery, useResource } from "@/kit/queries";
import { ScrollBox } from "@/kit/scroll-box";
import { ErrorNote } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import { guessMapping, type Mapping } from "./mapping";
import { readColumns } from "./read-columns";

const KINDS: Record<string, string> = {
  accounts: "ACCOUNTS",
  contacts: "CONTACTS",
  interactions: "INTERACTIONS",
};
const POLICIES = "duplicatePolicy";
const BUSY = /ING$/;
const POLL_MS = 1_000;

/** File, mapping, check, run, result: nothing is written before the check was seen. */
export function ImportPage() {
  const { collection = "" } = useParams();
  const { t, label, plural } = useText();
  const navigate = useNavigate();
  const target = useResource(collection);
  const imports = useResource("imports");
  const [file, setFile] = useState<File>();
  const [columns, setColumns] = useState<string[]>([]);
  const [mapping, setMapping] = useState<Mapping>({});
  const [policy, setPolicy] = useState("SKIP");
  const [name, setName] = useState<string>();
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<unknown>();

  const job = useQuery({
    ...recordQuery(name ?? ""),
    enabled: name !== undefined,
    refetchInterval: (query) => (BUSY.test(String(query.state.data?.["state"] ?? "")) ? POLL_MS : false),
  });
  const record = job.data;
  const state = String(record?.["state"] ?? "");
  const step = !file ? 0 : !record ? 1 : /^(UPLOADED|CHECKING|CHECKED)$/.test(state) ? 2 : 3;

  const fields = editableFields(target, true);
  const choose = async (chosen: File) => {
    setFailure(undefined);
    try {
      const head = await readColumns(chosen);
      setColumns(head);
      setMapping({ ...guessMapping(head, fields), ...remembered(collection, head) });
      setFile(chosen);
    } catch (error) {
      setFailure(error);
    }
  };

  const attempt = async (work: () => Promise<unknown>) => {
    setBusy(true);
    setFailure(undefined);
    try {
      await work();
    } catch (error) {
      setFailure(error);
    } finally {
      setBusy(false);
    }
  };

  const check = () =>
    attempt(async () => {
      if (!file) return;
      const upload = await request("/v1/files", {
        method: "POST",
        headers: {
          "Content-Type": file.type || "application/octet-stream",
          "X-File-Name": encodeURIComponent(file.name),
        },
        body: file,
      });
      const stored = (await upload.json()) as RecordJson;
      localStorage.setItem(memory(collection), JSON.stringify(mapping));
      const made = await create("imports", {
        file: stored.name,
        kind: KINDS[collection] ?? "ACCOUNTS",
        duplicatePolicy: policy,
        mapping: Object.entries(mapping).map(([column, field]) => ({ column, field })),
      });
      setName(made.name);
      await act(made.name, "check", {}, made.etag);
      await job.refetch();
    });

  const verb = (verbName: string, body: Record<string, unknown> = {}) =>
    attempt(async () => {
      if (!record) return;
      await act(record.name, verbName, body, record.etag);
      await job.refetch();
    });

  const again = () =>
    attempt(async () => {
      if (!record) return;
      const changed = await update(
        record.name,
        {
          mapping: Object.entries(mapping).map(([column, field]) => ({ column, field })),
          duplicatePolicy: policy,
        },
        record.etag,
      );
      await act(record.name, "check", {}, changed.etag);
      await job.refetch();
    });

  const policies = imports.fields.find((field) => field.name === POLICIES)?.choices ?? [];
  const number = (field: string) => Number(record?.[field] ?? 0);
  const title = t("import.title", { what: plural(target.label) });

  return (
    <Page title={title} crumbs={[{ label: plural(target.label), path: `/${collection}` }]}>
      <Steps
        current={step}
        size="small"
        items={["file", "mapping", "check", "run"].map((key) => ({ title: t(`import.step.${key}`) }))}
      />
      <div className="stack import">
        {failure !== undefined && (
          <ErrorNote
            error={failure instanceof ApiError ? failure : new ApiError(0, "IMPORT", messageOf(failure))}
          />
        )}
        {step === 0 && <Drop onFile={(chosen) => void choose(chosen)} />}
        {step === 1 && (
          <section className="card card-body">
            <p className="row import-file">
              <strong>{file?.name}</strong>
              <button type="button" className="link" onClick={() => setFile(undefined)}>
                {t("import.other")}
              </button>
            </p>
            <MappingTable columns={columns} fields={fields} mapping={mapping} onChange={setMapping} />
            <p className="row">
              <label htmlFor="policy">{t("import.duplicates")}</label>
              <Select
                id="policy"
                value={policy}
                style={{ minWidth: 160 }}
                options={policies.map((choice) => ({ value: choice.value, label: label(choice.label) }))}
                onChange={setPolicy}
              />
            </p>
            <p className="row">
              <button
                type="button"
                className="button button-primary"
                disabled={busy || Object.keys(mapping).length === 0}
                onClick={() => void check()}
              >
                {busy ? t("import.uploading") : t("import.check")}
              </button>
            </p>
          </section>
        )}
        {record && (
          <section className="card card-body" aria-live="polite">
            <h2>{t(`import.state.${state}`, { defaultValue: state })}</h2>
            {BUSY.test(state) && (
              <Progress
                percent={number("total") > 0 ? Math.floor((number("done") / number("total")) * 99) : 0}
                status="active"
              />
            )}
            <div className="figures">
              {["total", "created", "updated", "skipped", "failed"].map((field) => (
                <div key={field} className="figure">
                  <span className="faint">{t(`import.count.${field}`)}</span>
                  <strong>{number(field)}</strong>
                </div>
              ))}
            </div>
            {Boolean(record["failure"]) && <p className="note note-bad">{String(record["failure"])}</p>}
            <RowErrors record={record} />
            <div className="row">
              {state === "CHECKED" && (
                <>
                  <button
                    type="button"
                    className="button button-primary"
                    disabled={busy || number("total") === 0}
                    onClick={() => void verb("run", number("failed") > 0 ? { skipErrors: true } : {})}
                  >
                    {number("failed") > 0
                      ? t("import.runGood", { count: number("total") - number("failed") })
                      : t("import.run", { count: number("total") })}
                  </button>
                  <button type="button" className="button" disabled={busy} onClick={() => void again()}>
                    {t("import.again")}
                  </button>
                </>
              )}
              {state === "DONE" && (
                <>
                  <button
                    type="button"
                    className="button button-primary"
                    onClick={() => void navigate(`/${collection}`)}
                  >
                    {t("import.show", { what: plural(target.label) })}
                  </button>
                  <button
                    type="button"
                    className="button"
                    disabled={busy}
                    onClick={() => void verb("revert").then(() => tell(t("import.reverting"), "info"))}
                  >
                    {t("import.revert")}
                  </button>
                </>
              )}
              {typeof record["errorFile"] === "string" && record["errorFile"] && (
                <a className="button" href={`/v1/${record["errorFile"]}:download`}>
                  {t("import.errorFile")}
                </a>
              )}
              <Link to={`/${record.name}`}>{t("import.record")}</Link>
            </div>
          </section>
        )}
      </div>
    </Page>
  );
}

const memory = (collection: string) => `guanxi.mapping.${collection}`;

/** The mapping of last time, as far as this file has the same columns. */
function remembered(collection: string, columns: string[]): Mapping {
  const kept = JSON.parse(localStorage.getItem(memory(collection)) ?? "{}") as Mapping;
  return Object.fromEntries(Object.entries(kept).filter(([column]) => columns.includes(column)));
}

function Drop({ onFile }: { onFile: (file: File) => void }) {
  const { t } = useText();
  const [over, setOver] = useState(false);
  return (
    // Dropping is a second way; the file field inside is the first.
    <div
      className={`card drop ${over ? "drop-over" : ""}`}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        const [file] = event.dataTransfer.files;
        if (file) onFile(file);
      }}
    >
      <strong>{t("import.drop")}</strong>
      <p className="faint">{t("import.dropText")}</p>
      <label className="button button-primary drop-button">
        {t("import.choose")}
        <input
          type="file"
          className="visually-hidden"
          accept=".csv,.xlsx,.txt"
          onChange={(event) => event.target.files?.[0] && onFile(event.target.files[0])}
        />
      </label>
    </div>
  );
}

interface MappingProps {
  columns: string[];
  fields: ReturnType<typeof editableFields>;
  mapping: Mapping;
  onChange: (mapping: Mapping) => void;
}

function MappingTable({ columns, fields, mapping, onChange }: MappingProps) {
  const { t, label } = useText();
  const missing = fields.filter((field) => field.required && !Object.values(mapping).includes(field.name));
  return (
    <>
      {columns.length === 0 && <p className="faint">{t("import.serverReads")}</p>}
      <table className="plain mapping">
        <caption className="visually-hidden">{t("import.step.mapping")}</caption>
        <thead>
          <tr>
            <th scope="col">{t("import.column")}</th>
            <th scope="col">{t("import.field")}</th>
          </tr>
        </thead>
        <tbody>
          {columns.map((column) => (
            <tr key={column}>
              <th scope="row">{column}</th>
              <td>
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
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {missing.length > 0 && (
        <p className="note note-info">
          {t("import.missing", { fields: missing.map((field) => label(field.label)).join("、") })}
        </p>
      )}
    </>
  );
}

interface RowError {
  line?: number;
  column?: string;
  text?: string;
}

const SHOWN = 50;

function RowErrors({ record }: { record: RecordJson }) {
  const { t } = useText();
  const errors = (record["errors"] as RowError[] | undefined) ?? [];
  if (errors.length === 0) return null;
  return (
    <ScrollBox label={t("import.errors")}>
      <table className="plain">
        <caption>{t("import.errors")}</caption>
        <thead>
          <tr>
            <th scope="col" className="number">
              {t("import.line")}
            </th>
            <th scope="col">{t("import.column")}</th>
            <th scope="col">{t("import.reason")}</th>
          </tr>
        </thead>
        <tbody>
          {errors.slice(0, SHOWN).map((error, index) => (
            <tr key={index}>
              <td className="number">{error.line}</td>
              <td>{error.column}</td>
              <td>{error.text}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </ScrollBox>
  );
}
