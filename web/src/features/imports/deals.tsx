import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Progress, Select, Steps } from "antd";
import { useState, type ReactNode } from "react";
import { Link } from "react-router";
import { batchGet, type Json } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { readCsv } from "@/kit/csv";
import { quote } from "@/kit/filter";
import { FieldInput } from "@/kit/field-input";
import { post } from "@/kit/got";
import { itemsOf } from "@/kit/keyed";
import { Page } from "@/kit/page";
import { firstPageQuery, titleOf, useCatalogue, useResource } from "@/kit/queries";
import { ErrorNote } from "@/kit/states";
import { DealOutcome, type Outcome } from "./deal-outcome";
import { dayOrder, dealsOf, NAMED, textsOf, type DayOrder, type Names } from "./deal-rows";
import { Drop } from "./drop";
import { guessMapping, plain, type Mapping } from "./mapping";
import { MappingTable } from "./mapping-table";
import { readText } from "./read-columns";

type Reply = Schema<"sales.ImportOpportunitiesResponse">;

/** What one call takes; it lasts a second or two. */
const PART = 1_000;

/** Deals of another system with how they ended: checked first, mapped where names differ, made once however often. */
export function DealImportPage() {
  const { t, label, plural, language } = useText();
  const client = useQueryClient();
  const catalogue = useCatalogue();
  const target = useResource("opportunities");
  const pipelines = useQuery(firstPageQuery("pipelines", { pageSize: 50, filter: 'state = "ACTIVE"' }));
  const [file, setFile] = useState<{ name: string; columns: string[]; lines: string[][] }>();
  const [mapping, setMapping] = useState<Mapping>({});
  const [currency, setCurrency] = useState("CNY");
  const [pipeline, setPipeline] = useState<string>();
  const [progress, setProgress] = useState<Record<string, string>>({});
  const [days, setDays] = useState<DayOrder>();
  const [names, setNames] = useState<Names>({ account: {}, product: {} });
  const [outcome, setOutcome] = useState<Outcome>();
  const [sent, setSent] = useState<number>();
  const [failure, setFailure] = useState<unknown>();

  const asked = target.verbs.find(({ name }) => name === "import")?.fields ?? [];
  // The stage comes with the progress; names are for programs.
  const fields = (asked.find(({ name }) => name === "rows")?.fields ?? []).filter(
    ({ name }) => name !== "stage" && name !== "name",
  );
  const currencyField = asked.find(({ name }) => name === "currency");
  const flows = pipelines.data?.records ?? [];
  const flow =
    flows.find(({ name }) => name === pipeline) ?? flows.find((one) => one["isDefault"]) ?? flows[0];
  const keyed = target.fields.find(({ name }) => name === "stage")?.keyed;
  const states = target.fields.find(({ name }) => name === "state")?.choices ?? [];
  const choices = [
    ...states
      .filter(({ value }) => value === "WON" || value === "LOST")
      .map((one) => ({ value: one.value, label: label(one.label), known: [one.label.zh, one.label.en] })),
    ...(flow && keyed ? itemsOf(flow, keyed, language) : []).map((stage) => ({
      value: `OPEN:${stage.key}`,
      label: t("deals.at", { stage: stage.label }),
      known: [stage.key, stage.label],
    })),
  ];
  const guess = (text: string) =>
    choices.find(({ value, known }) => [value, ...known].some((word) => plain(word) === plain(text)))?.value;
  const { columns = [], lines = [] } = file ?? {};
  const words = textsOf(lines, columns, mapping, "state");
  const meant = Object.fromEntries(words.map((text) => [text, progress[text] ?? guess(text) ?? ""]));
  const written = dayOrder(["openDate", "closeDate"].flatMap((one) => textsOf(lines, columns, mapping, one)));
  const order = days ?? written.order;
  const missing =
    fields.some((field) => field.required && !Object.values(mapping).includes(field.name)) ||
    Object.values(meant).includes("") ||
    (written.asked && !order) ||
    !flow;

  const attempt = async (work: () => Promise<void>) => {
    setFailure(undefined);
    try {
      await work();
    } catch (error) {
      setFailure(error);
    } finally {
      setSent(undefined);
    }
  };
  const choose = (chosen: File) =>
    attempt(async () => {
      const [head = [], ...rest] = readCsv(await readText(chosen));
      const titles = head.map((title) => title.trim());
      setFile({ name: chosen.name, columns: titles, lines: rest });
      setMapping(guessMapping(titles.filter(Boolean), fields));
      setOutcome(undefined);
    });
  /** What records are called, as the rows name them. */
  const called = async (of: Record<string, string>, collection: string) => {
    const wanted = [...new Set(Object.values(of))];
    const found = wanted.length > 0 ? await batchGet(collection, wanted) : [];
    const titles = new Map(found.map((one) => [one.name, titleOf(one, catalogue.find(collection))]));
    return Object.fromEntries(Object.entries(of).map(([text, name]) => [text, titles.get(name) ?? text]));
  };
  const send = (dryRun: boolean) =>
    attempt(async () => {
      setSent(0);
      const deals = dealsOf(lines, columns, mapping, {
        currency,
        days: order ?? "MDY",
        progress: meant,
        names: {
          account: await called(names.account, "accounts"),
          product: await called(names.product, "products"),
        },
      });
      const good = deals.filter(({ problems }) => problems.length === 0);
      const all: Outcome = {
        dry: dryRun,
        total: deals.length,
        created: 0,
        known: 0,
        held: 0,
        refused: deals.filter(({ problems }) => problems.length > 0),
      };
      for (let first = 0; first < good.length; first += PART) {
        const part = good.slice(first, first + PART);
        const body: Json = {
          rows: part.map(({ row }) => row),
          currency,
          pipeline: flow?.name,
          firstLine: 1,
          dryRun,
        };
        const reply = await post<Reply>("/v1/opportunities:import", body);
        all.created += reply.created ?? 0;
        all.known += reply.known ?? 0;
        all.held += reply.held ?? 0;
        for (const { line = 1, reasons = [], value = "" } of reply.refusals ?? []) {
          const deal = part[line - 1];
          const problems = reasons.map((reason) => {
            const named = NAMED[reason];
            return { reason, text: named && deal ? deal.said[named] : value };
          });
          if (deal) all.refused.push({ ...deal, problems });
        }
        setSent(first + part.length);
      }
      setOutcome({ ...all, refused: all.refused.toSorted((a, b) => a.line - b.line) });
      if (dryRun) return;
      await client.invalidateQueries({ queryKey: ["list", "opportunities"] });
      await client.invalidateQueries({ queryKey: ["aggregate", "opportunities"] });
    });

  const busy = sent !== undefined;
  return (
    <Page
      title={t("deals.title")}
      crumbs={[{ label: plural(target.label), path: "/opportunities" }]}
      note={<p className="faint">{t("deals.note")}</p>}
    >
      <Steps
        current={!file ? 0 : !outcome ? 1 : outcome.dry ? 2 : 3}
        size="small"
        items={["file", "mapping", "check", "run"].map((key) => ({ title: t(`import.step.${key}`) }))}
      />
      <div className="stack import">
        {failure !== undefined && <ErrorNote error={failure} />}
        {!file && <Drop accept=".csv,.txt" hint={t("deals.file")} onFile={(chosen) => void choose(chosen)} />}
        {file && !outcome && (
          <section className="card card-body">
            <p className="row import-file">
              <strong>{file.name}</strong>
              <span className="faint">{t("deals.rows", { count: lines.length })}</span>
              <button type="button" className="link" onClick={() => setFile(undefined)}>
                {t("import.other")}
              </button>
            </p>
            <MappingTable
              columns={columns.filter(Boolean)}
              fields={fields}
              mapping={mapping}
              onChange={setMapping}
            />
            <div className="form-grid">
              <Setting id="deals-pipeline" title={t("board.process")}>
                <Select
                  id="deals-pipeline"
                  value={flow?.name}
                  loading={pipelines.isPending}
                  options={flows.map((one) => ({
                    value: one.name,
                    label: titleOf(one, catalogue.find("pipelines"), language),
                  }))}
                  onChange={(next: string) => {
                    setPipeline(next);
                    setProgress({});
                  }}
                />
              </Setting>
              {currencyField && (
                <Setting id="deals-currency" title={label(currencyField.label)}>
                  <FieldInput
                    id="deals-currency"
                    field={currencyField}
                    value={currency}
                    onChange={(next) => setCurrency(String(next))}
                  />
                </Setting>
              )}
              {written.asked && (
                <Setting id="deals-days" title={t("deals.days")}>
                  <Select
                    id="deals-days"
                    value={order}
                    placeholder={t("deals.unsaid")}
                    options={(["MDY", "DMY"] as const).map((value) => ({
                      value,
                      label: t(`deals.order.${value}`),
                    }))}
                    onChange={setDays}
                  />
                </Setting>
              )}
              {words.map((text, index) => (
                <Setting key={text} id={`deals-word-${index}`} title={t("deals.word", { text: text || "—" })}>
                  <Select
                    id={`deals-word-${index}`}
                    value={meant[text] || undefined}
                    placeholder={t("deals.unsaid")}
                    options={choices.map((choice) => ({ value: choice.value, label: choice.label }))}
                    onChange={(next: string) => setProgress({ ...progress, [text]: next })}
                  />
                </Setting>
              ))}
            </div>
            <div className="row">
              <button
                type="button"
                className="button button-primary"
                disabled={busy || missing}
                onClick={() => void send(true)}
              >
                {t("deals.check")}
              </button>
            </div>
          </section>
        )}
        {busy && (
          <div role="status" aria-label={t("import.state.running")}>
            <Progress percent={Math.floor((sent / Math.max(1, lines.length)) * 99)} status="active" />
          </div>
        )}
        {outcome && (
          <DealOutcome
            outcome={outcome}
            names={names}
            busy={busy}
            onName={(kind, text, name) => {
              const { [text]: _, ...rest } = names[kind];
              setNames({ ...names, [kind]: name ? { ...rest, [text]: name } : rest });
            }}
          >
            {outcome.dry ? (
              <>
                <button
                  type="button"
                  className="button button-primary"
                  disabled={busy || outcome.created + outcome.held === 0}
                  onClick={() => void send(false)}
                >
                  {t("import.run", { count: outcome.created + outcome.held })}
                </button>
                <button type="button" className="button" disabled={busy} onClick={() => void send(true)}>
                  {t("deals.again")}
                </button>
                <button
                  type="button"
                  className="button"
                  disabled={busy}
                  onClick={() => setOutcome(undefined)}
                >
                  {t("import.back")}
                </button>
              </>
            ) : (
              <>
                <Link
                  className="button button-primary"
                  to={`/opportunities?where=${encodeURIComponent(`pipeline = ${quote(flow?.name ?? "")}`)}`}
                >
                  {t("import.show", { what: plural(target.label) })}
                </Link>
                <button type="button" className="button" disabled={busy} onClick={() => void send(true)}>
                  {t("deals.again")}
                </button>
              </>
            )}
          </DealOutcome>
        )}
      </div>
    </Page>
  );
}

function Setting({ id, title, children }: { id: string; title: string; children: ReactNode }) {
  return (
    <div className="form-field">
      <label htmlFor={id}>{title}</label>
      {children}
    </div>
  );
}
