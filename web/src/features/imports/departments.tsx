import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useNavigate } from "react-router";
import type { Field } from "@/api/catalogue";
import type { Json } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { readCsv } from "@/kit/csv";
import { Figure } from "@/kit/figure";
import { post } from "@/kit/got";
import { Page } from "@/kit/page";
import { columnOf, PlainTable } from "@/kit/plain-table";
import { useResource } from "@/kit/queries";
import { ErrorNote } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { readText } from "./read-columns";

type Outcome = Schema<"workspace.ImportDepartmentsResponse">;
const TALLIES = ["created", "moved", "changed", "unchanged"] as const;
const YES = /^(true|yes|y|1|是)$/i;

/** The whole organisation from a file: what would be made, moved and changed is seen first; then all of it, or nothing. */
export function DepartmentImportPage() {
  const { t, plural, label, comma } = useText();
  const navigate = useNavigate();
  const client = useQueryClient();
  const resource = useResource("departments");
  const fields =
    resource.verbs.find(({ name }) => name === "import")?.fields.find(({ name }) => name === "rows")
      ?.fields ?? [];
  const [read, setRead] = useState<{ rows: Json[]; unknown: string[] }>();
  const [tried, setTried] = useState<Outcome>();
  const [failure, setFailure] = useState<unknown>();
  const [busy, setBusy] = useState(false);

  const send = async (rows: Json[], dryRun: boolean) => {
    setBusy(true);
    setFailure(undefined);
    try {
      const outcome = await post<Outcome>("/v1/departments:import", { rows, dryRun });
      setTried(outcome);
      if (!outcome.written) return;
      tell(t("departments.imported", { count: rows.length }), "good");
      void client.invalidateQueries({ queryKey: ["list", "departments"] });
      void navigate("/departments");
    } catch (error) {
      setFailure(error);
    } finally {
      setBusy(false);
    }
  };
  const choose = async (file: File | undefined) => {
    if (!file) return;
    const told = rowsOf(readCsv(await readText(file)), fields);
    setRead(told);
    setTried(undefined);
    if (told.rows.length > 0) await send(told.rows, true);
  };
  const problems = tried?.problems ?? [];
  const problemOf = (index: number) =>
    problems.filter(({ row = 0 }) => row === index).map(({ text }) => text);

  return (
    <Page
      title={t("departments.import")}
      crumbs={[{ label: plural(resource.label), path: "/departments" }]}
      actions={
        read &&
        read.rows.length > 0 && (
          <button
            type="button"
            className="button button-primary"
            disabled={busy || !tried || problems.length > 0}
            onClick={() => void send(read.rows, false)}
          >
            {t("departments.run")}
          </button>
        )
      }
    >
      <div className="stack">
        <section className="card card-body stack">
          <label htmlFor="departments-file">{t("departments.file")}</label>
          <input
            id="departments-file"
            type="file"
            accept=".csv,text/csv"
            onChange={(event) => void choose(event.target.files?.[0])}
          />
          <p className="faint">
            {t("departments.columns", { columns: fields.map((field) => label(field.label)).join(comma) })}
          </p>
        </section>
        {failure !== undefined && <ErrorNote error={failure} />}
        {read && read.unknown.length > 0 && (
          <p className="note note-info">{t("departments.unknown", { columns: read.unknown.join(comma) })}</p>
        )}
        {read && read.rows.length === 0 && <p className="note note-bad">{t("departments.empty")}</p>}
        {tried && (
          <div className="figures" role="status">
            {TALLIES.map((key) => (
              <Figure key={key} label={t(`departments.${key}`)}>
                {tried[key] ?? 0}
              </Figure>
            ))}
            <Figure label={t("departments.problems")}>{problems.length}</Figure>
          </div>
        )}
        {read && read.rows.length > 0 && (
          <section className="card card-body">
            <PlainTable
              caption={t("departments.rows")}
              rows={read.rows}
              keyOf={(_, index) => index}
              stacked
              columns={[
                { key: "row", title: t("departments.row"), row: true, cell: (_, index) => index + 1 },
                ...fields.map((field) => columnOf(field, label)),
                {
                  key: "problem",
                  title: t("departments.problems"),
                  cell: (_, index) =>
                    problemOf(index).map((text) => (
                      <p key={text} className="field-error">
                        {text}
                      </p>
                    )),
                },
              ]}
            />
          </section>
        )}
      </div>
    </Page>
  );
}

/** The lines of a file as the server takes them; columns are known by their labels in either language, or by name. */
function rowsOf([head = [], ...lines]: string[][], fields: Field[]): { rows: Json[]; unknown: string[] } {
  const plain = (text: string) => text.trim().replace(/_/g, "").toLowerCase();
  const columns = head.map((title) =>
    fields.find(({ name, label }) =>
      [name, label.zh, label.en].some((known) => plain(known) === plain(title)),
    ),
  );
  return {
    unknown: head.filter((title, at) => title.trim() !== "" && !columns[at]),
    rows: lines.map((line) =>
      Object.fromEntries(
        line.flatMap((cell, at) => {
          const field = columns[at];
          return field && cell.trim() !== "" ? [[field.name, valueOf(field, cell.trim())]] : [];
        }),
      ),
    ),
  };
}

function valueOf(field: Field, text: string): unknown {
  if (field.kind === "boolean") return YES.test(text);
  const choice = field.choices.find(({ value, label }) => [value, label.zh, label.en].includes(text));
  return choice?.value ?? text;
}
