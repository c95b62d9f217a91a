import { useInfiniteQuery } from "@tanstack/react-query";
import type { Page, RecordJson } from "@/api/client";
import { request } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { Countdown } from "@/kit/countdown";
import { formatInstant } from "@/kit/dates";
import { Reference } from "@/kit/field-value";
import { Figure } from "@/kit/figure";
import { History } from "@/kit/history";
import { formatMoney, type Money } from "@/kit/money";
import { PagedTable, PlainTable } from "@/kit/plain-table";
import { useResource } from "@/kit/queries";
import { LineTables } from "@/kit/record-fields";
import { RecordFrame } from "@/kit/record-frame";
import { Empty } from "@/kit/states";
import { Cut } from "./cut";
import { numberFormat } from "@/kit/formatters";

export type Plan = Schema<"sales.TerritoryPlan"> & RecordJson;
type Preview = Schema<"sales.TerritoryPlan.Preview">;
type Move = Schema<"sales.ListTerritoryPlanMovesResponse.Move">;

const PAGE = 30;
const OWN = ["tree", "before", "preview", "outcome", "digest", "overrides", "notes"];

/** A new cut of the market: the cut itself, what it would change, customer by customer, and how it came out. */
export function TerritoryPlanPage({ name }: { name: string }) {
  const { t, language } = useText();
  const resource = useResource("territoryPlans");
  const rest = {
    ...resource,
    fields: resource.fields.filter((field) => ["overrides", "notes"].includes(field.name)),
  };
  return (
    <RecordFrame
      resource={resource}
      name={name}
      hide={OWN}
      banner={(record) => {
        const plan = record as Plan;
        if (plan.state !== "APPLIED" || !plan.undoUntilTime) return null;
        return (
          <p className="banner" role="status">
            {t("territory.undo", { time: formatInstant(plan.undoUntilTime, language) })}{" "}
            <Countdown until={plan.undoUntilTime} />
          </p>
        );
      }}
      tabs={(record) => {
        const plan = record as Plan;
        return [
          { key: "cut", label: t("territory.cut"), content: <Cut plan={plan} /> },
          { key: "preview", label: t("territory.preview"), content: <Effect plan={plan} /> },
          { key: "moves", label: t("territory.moves"), content: <Moves plan={plan} /> },
          ...(rest.fields.some(({ name: field }) => ((plan[field as keyof Plan] ?? []) as []).length > 0)
            ? [
                {
                  key: "lines",
                  label: t("record.lines"),
                  content: <LineTables resource={rest} record={record} />,
                },
              ]
            : []),
          { key: "history", label: t("history.title"), content: <History resource={resource} name={name} /> },
        ];
      }}
    />
  );
}

/** What the plan would change, and once it is in force how it came out against that. */
function Effect({ plan }: { plan: Plan }) {
  const { t, language } = useText();
  const preview = plan.preview;
  if (!preview || !plan.previewTime)
    return (
      <section className="card">
        <Empty title={t("territory.noPreview")} text={t("territory.noPreviewText")} />
      </section>
    );
  const number = (value: unknown) => numberFormat(language).format(Number(value ?? 0));
  return (
    <div className="stack">
      <p className="faint">{t("territory.asOf", { time: formatInstant(plan.previewTime, language) })}</p>
      <div className="figures">
        {(["accounts", "moved", "gaps", "overlaps"] as const).map((key) => (
          <Figure
            key={key}
            label={t(`territory.figure.${key}`)}
            note={
              (key === "gaps" || key === "overlaps") && (
                <span className={`tag tag-${Number(preview[key] ?? 0) > 0 ? "warn" : "good"}`}>
                  {t(Number(preview[key] ?? 0) > 0 ? "territory.look" : "territory.fine")}
                </span>
              )
            }
          >
            {number(preview[key])}
          </Figure>
        ))}
      </div>
      {plan.outcome && (plan.state === "APPLIED" || plan.state === "UNDONE" || plan.state === "APPLYING") && (
        <section className="card card-body">
          <h2>{t("territory.outcome")}</h2>
          <div className="figures">
            {(["planned", "dropped", "added", "moved", "left", "undone"] as const).map((key) => (
              <Figure key={key} label={t(`territory.outcomes.${key}`)}>
                {number(plan.outcome?.[key])}
              </Figure>
            ))}
          </div>
        </section>
      )}
      <Loads preview={preview} />
      <Flows preview={preview} />
      {(["keyAccounts", "without", "overlapping", "excluded"] as const).map((key) => (
        <Listed key={key} title={t(`territory.${key}`)} rows={preview[key] ?? []} />
      ))}
    </div>
  );
}

const useSums = () => {
  const { language } = useText();
  return (sums: Money[] | undefined) =>
    (sums ?? []).map((sum) => formatMoney(sum, language)).join(" + ") || "—";
};

/** What everybody has before and afterwards: customers, open deals, cities. */
function Loads({ preview }: { preview: Preview }) {
  const { t } = useText();
  const sums = useSums();
  const change = (before: unknown, after: unknown) => `${Number(before ?? 0)} → ${Number(after ?? 0)}`;
  if ((preview.loads ?? []).length === 0) return null;
  return (
    <section className="card card-body">
      <h2>{t("territory.loads")}</h2>
      <PlainTable
        caption={t("territory.loads")}
        stacked
        rows={preview.loads ?? []}
        keyOf={(load) => load.employee ?? ""}
        columns={[
          {
            key: "who",
            title: t("territory.who"),
            row: true,
            cell: (load) => <Reference name={load.employee ?? ""} />,
          },
          {
            key: "accounts",
            title: t("territory.customers"),
            number: true,
            cell: (load) => change(load.accountsBefore, load.accountsAfter),
          },
          {
            key: "cities",
            title: t("territory.cities"),
            number: true,
            cell: (load) => change(load.citiesBefore, load.citiesAfter),
          },
          {
            key: "before",
            title: t("territory.pipelineBefore"),
            number: true,
            cell: (load) => sums(load.pipelineBefore as Money[]),
          },
          {
            key: "after",
            title: t("territory.pipelineAfter"),
            number: true,
            cell: (load) => sums(load.pipelineAfter as Money[]),
          },
        ]}
      />
    </section>
  );
}

/** From whom to whom how much goes. */
function Flows({ preview }: { preview: Preview }) {
  const { t } = useText();
  const sums = useSums();
  if ((preview.flows ?? []).length === 0) return null;
  return (
    <section className="card card-body">
      <h2>{t("territory.flows")}</h2>
      <PlainTable
        caption={t("territory.flows")}
        stacked
        rows={preview.flows ?? []}
        keyOf={(flow) => `${flow.from} ${flow.to}`}
        columns={[
          {
            key: "from",
            title: t("territory.from"),
            row: true,
            cell: ({ from }) => (from ? <Reference name={from} /> : t("territory.nobody")),
          },
          {
            key: "to",
            title: t("territory.to"),
            cell: ({ to }) => (to ? <Reference name={to} /> : t("territory.nobody")),
          },
          {
            key: "accounts",
            title: t("territory.customers"),
            number: true,
            cell: (flow) => flow.accounts ?? 0,
          },
          { key: "leads", title: t("territory.leads"), number: true, cell: (flow) => flow.leads ?? 0 },
          { key: "deals", title: t("territory.deals"), number: true, cell: (flow) => flow.deals ?? 0 },
          {
            key: "amounts",
            title: t("territory.amounts"),
            number: true,
            cell: (flow) => sums(flow.amounts as Money[]),
          },
        ]}
      />
    </section>
  );
}

function Listed({ title, rows }: { title: string; rows: Schema<"sales.TerritoryPlan.Listed">[] }) {
  const { t } = useText();
  if (rows.length === 0) return null;
  return (
    <section className="card card-body">
      <h2>{title}</h2>
      <PlainTable
        caption={title}
        rows={rows}
        keyOf={(row, index) => row.account ?? index}
        columns={[
          {
            key: "account",
            title: t("territory.customer"),
            row: true,
            cell: (row) => <Reference name={row.account ?? ""} />,
          },
          {
            key: "reason",
            title: t("territory.reason"),
            cell: ({ reason }) => t(`territory.why.${reason}`, { defaultValue: reason ?? "" }),
          },
        ]}
      />
    </section>
  );
}

/** Customer by customer, with the criterion that decides, reckoned now. */
function Moves({ plan }: { plan: Plan }) {
  const { t } = useText();
  const pages = useInfiniteQuery({
    queryKey: ["record", plan.name, "moves", plan.etag],
    queryFn: async ({ pageParam, signal }): Promise<Page> => {
      const path = `/v1/${plan.name}:moves?pageSize=${PAGE}&pageToken=${encodeURIComponent(pageParam)}`;
      const found = (await (
        await request(path, { signal })
      ).json()) as Schema<"sales.ListTerritoryPlanMovesResponse">;
      return {
        records: (found.moves ?? []).map((move) => ({ ...move, name: move.account ?? "" })),
        nextPageToken: found.nextPageToken ?? "",
      };
    },
    initialPageParam: "",
    getNextPageParam: (page) => page.nextPageToken || undefined,
    retry: false,
  });
  return (
    <section className="card card-body">
      <PagedTable
        caption={t("territory.moves")}
        pages={pages}
        stacked
        none={<Empty title={t("territory.noMoves")} />}
        columns={[
          {
            key: "account",
            title: t("territory.customer"),
            row: true,
            cell: (move) => (
              <>
                <Reference name={move.name} />{" "}
                {(move as Move).key && <span className="tag tag-warn">{t("territory.key")}</span>}
              </>
            ),
          },
          {
            key: "from",
            title: t("territory.from"),
            cell: ({ from }) => (from ? <Reference name={String(from)} /> : t("territory.nobody")),
          },
          {
            key: "to",
            title: t("territory.to"),
            cell: ({ to }) => (to ? <Reference name={String(to)} /> : t("territory.nobody")),
          },
          {
            key: "territory",
            title: t("territory.territory"),
            cell: (move) => String(move["territory"] ?? ""),
          },
          {
            key: "criterion",
            title: t("territory.because"),
            cell: (move) =>
              `${t(`territory.criterion.${String(move["criterion"])}`)} ${String(move["matched"] ?? "")}`,
          },
        ]}
      />
    </section>
  );
}
