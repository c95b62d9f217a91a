import { useQuery } from "@tanstack/react-query";
import { Progress, Select, Steps } from "antd";
import { useMemo, useState } from "react";
import { Link, useNavigate, useParams } from "react-router";
import { act, update, type RecordJson } from "@/api/client";
import { ApiError } from "@/api/errors";
import { downloadUrl, upload } from "@/api/files";
import { useText } from "@/i18n";
import { editableFields, isImportable } from "@/kit/form-model";
import { numberFormat } from "@/kit/formatters";
import { Page } from "@/kit/page";
import { PlainTable } from "@/kit/plain-table";
import { recordQuery, useCatalogue, useResource } from "@/kit/queries";
import { ErrorNote } from "@/kit/states";
import { wayFor, type Phase } from "./jobs";
import { Drop } from "./drop";
import { guessMapping, type Mapping } from "./mapping";
import { MappingTable } from "./mapping-table";
import { Proposals } from "./proposals";
import { readColumns } from "./read-columns";

const BUSY: Phase[] = ["checking", "running", "reverting"];
const POLL_MS = 1_000;
const COUNTS = ["total", "created", "updated", "skipped", "held", "failed"];

/** File, mapping, check, run, result: nothing is written before the check was seen. */
export function ImportPage() {
  const { collection = "" } = useParams();
  const { t, label, plural, language } = useText();
  const navigate = useNavigate();
  const target = useResource(collection);
  if (!isImportable(target)) throw new ApiError(404, "NOT_FOUND", "");
  const catalogue = useCatalogue();
  const way = useMemo(() => wayFor(catalogue, collection), [catalogue, collection]);
  const [file, setFile] = useState<File>();
  const [stored, setStored] = useState<string>();
  const [columns, setColumns] = useState<string[]>([]);
  const [mapping, setMapping] = useState<Mapping>({});
  const [duplicates, setDuplicates] = useState("SKIP");
  const [name, setName] = useState<string>();
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<unknown>();

  const job = useQuery({
    ...recordQuery(name ?? ""),
    enabled: name !== undefined,
    refetchInterval: ({ state }) => (state.data && BUSY.includes(way.phase(state.data)) ? POLL_MS : false),
  });
  const record = name === undefined ? undefined : job.data;
  const phase = record && way.phase(record);
  const step = !file ? 0 : !phase ? 1 : phase === "checking" || phase === "checked" ? 2 : 3;
  const fields = editableFields(target, true);

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
  const choose = (chosen: File) =>
    attempt(async () => {
      const head = await readColumns(chosen);
      setColumns(head);
      setMapping({ ...guessMapping(head, fields), ...remembered(collection, head) });
      setFile(chosen);
    });
  const follow = async (started: Promise<RecordJson>) => {
    const next = await started;
    setName(next.name);
    await job.refetch();
  };
  const check = () =>
    attempt(async () => {
      if (!file) return;
      const uploaded = await upload(file);
      setStored(uploaded);
      localStorage.setItem(memory(collection), JSON.stringify(mapping));
      await follow(way.check({ file: uploaded, mapping, duplicates }));
    });
  const run = () =>
    attempt(async () => {
      if (record && stored) await follow(way.run(record, { file: stored, mapping, duplicates }));
    });
  /** The replacements stand in the import, not in what is remembered for the next file. */
  const takeUp = (mapped: unknown[]) =>
    attempt(async () => {
      if (!record) return;
      const changed = await update(record.name, { mapping: mapped }, record.etag);
      await follow(act(changed.name, "check", {}, changed.etag));
    });
  const revert = () => attempt(async () => record && (await follow(way.revert(record))));

  const number = (field: string) => Number(record?.[field] ?? 0);
  const good = number("total") - number("failed");
  const errorFile = typeof record?.["errorFile"] === "string" ? record["errorFile"] : "";

  return (
    <Page
      title={t("import.title", { what: plural(target.label) })}
      crumbs={[{ label: plural(target.label), path: `/${collection}` }]}
    >
      <Steps
        current={step}
        size="small"
        items={["file", "mapping", "check", "run"].map((key) => ({ title: t(`import.step.${key}`) }))}
      />
      <div className="stack import">
        {failure !== undefined && <ErrorNote error={failure} />}
        {step === 0 && <Drop onFile={(chosen) => void choose(chosen)} />}
        {step === 0 && collection === "opportunities" && (
          <Link to="/import/opportunities/past">{t("deals.other")}</Link>
        )}
        {step === 1 && (
          <section className="card card-body">
            <p className="row import-file">
              <strong>{file?.name}</strong>
              <button type="button" className="link" onClick={() => setFile(undefined)}>
                {t("import.other")}
              </button>
            </p>
            <MappingTable columns={columns} fields={fields} mapping={mapping} onChange={setMapping} />
            <div className="row">
              <label htmlFor="duplicates">{t("import.duplicates")}</label>
              <Select
                id="duplicates"
                value={duplicates}
                style={{ minWidth: 160 }}
                options={way.duplicates.map((choice) => ({
                  value: choice.value,
                  label: label(choice.label),
                }))}
                onChange={setDuplicates}
              />
            </div>
            <div className="row">
              <button
                type="button"
                className="button button-primary"
                disabled={busy}
                onClick={() => void check()}
              >
                {busy ? t("import.uploading") : t("import.check")}
              </button>
            </div>
          </section>
        )}
        {record && phase && (
          <section className="card card-body" aria-live="polite">
            <h2>{t(`import.state.${phase}`)}</h2>
            {BUSY.includes(phase) && (
              <Progress
                percent={number("total") > 0 ? Math.floor((number("done") / number("total")) * 99) : 0}
                status="active"
              />
            )}
            <div className="figures">
              {COUNTS.filter((field) => record[field] !== undefined).map((field) => (
                <div key={field} className="figure">
                  <span className="faint">{t(`import.count.${field}`)}</span>
                  <strong>{numberFormat(language).format(number(field))}</strong>
                </div>
              ))}
            </div>
            {Boolean(record["failure"] || record["reason"]) && (
              <p className="note note-bad">{String(record["failure"] || record["reason"])}</p>
            )}
            {phase === "checked" && (
              <Proposals
                key={record.etag}
                record={record}
                fieldOf={(column) => fields.find((field) => field.name === mapping[column])}
                busy={busy}
                onTake={(mapped) => void takeUp(mapped)}
              />
            )}
            <RowErrors record={record} />
            <div className="row">
              {phase === "checked" && (
                <>
                  <button
                    type="button"
                    className="button button-primary"
                    disabled={busy || good === 0}
                    onClick={() => void run()}
                  >
                    {number("failed") > 0
                      ? t("import.runGood", { count: good })
                      : t("import.run", { count: good })}
                  </button>
                  <button type="button" className="button" disabled={busy} onClick={() => setName(undefined)}>
                    {t("import.back")}
                  </button>
                </>
              )}
              {phase === "done" && (
                <>
                  <button
                    type="button"
                    className="button button-primary"
                    onClick={() => void navigate(`/${collection}`)}
                  >
                    {t("import.show", { what: plural(target.label) })}
                  </button>
                  <button type="button" className="button" disabled={busy} onClick={() => void revert()}>
                    {t("import.revert")}
                  </button>
                </>
              )}
              {errorFile && (
                <a className="button" href={downloadUrl(errorFile)}>
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
    <>
      <h3>{t("import.errors")}</h3>
      <PlainTable
        caption={t("import.errors")}
        rows={errors.slice(0, SHOWN)}
        keyOf={(_, index) => index}
        columns={[
          { key: "line", title: t("import.line"), number: true, cell: ({ line }) => line },
          { key: "column", title: t("import.column"), cell: ({ column }) => column },
          { key: "reason", title: t("import.reason"), cell: ({ text }) => text },
        ]}
      />
    </>
  );
}
