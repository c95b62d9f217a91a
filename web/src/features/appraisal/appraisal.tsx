import { useQuery } from "@tanstack/react-query";
import { DatePicker } from "antd";
import dayjs from "dayjs";
import type { Field } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { ApiError } from "@/api/errors";
import { useText } from "@/i18n";
import { useAddress } from "@/kit/address";
import { Bars } from "@/kit/bars";
import { FieldValue, Reference } from "@/kit/field-value";
import { Figure } from "@/kit/figure";
import { GenericRecord } from "@/kit/generic-record";
import { gotQuery } from "@/kit/got";
import { Page } from "@/kit/page";
import { PlainTable } from "@/kit/plain-table";
import { ReferencePicker } from "@/kit/reference-picker";
import { useResource } from "@/kit/queries";
import { Empty, Loaded } from "@/kit/states";
import { numberFormat } from "@/kit/formatters";

type Appraisal = Schema<"sales.Appraisal"> & RecordJson;
type Item = Schema<"sales.Appraisal.Item">;
type Rank = Schema<"sales.GetAppraisalRankResponse">;

/** How somebody did in a month: each figure beside the month before and the middle of the others, and what to do better. */
export function AppraisalPage({ name }: { name: string }) {
  const { t } = useText();
  const resource = useResource("appraisals");
  return (
    <GenericRecord
      resource={resource}
      name={name}
      banner={(record) => <Summary appraisal={record as Appraisal} />}
      more={(record) => [
        {
          key: "figures",
          label: t("appraisal.figures"),
          content: <Figures appraisal={record as Appraisal} />,
        },
        {
          key: "findings",
          label: t("appraisal.findings"),
          content: <Findings appraisal={record as Appraisal} />,
        },
      ]}
    />
  );
}

const numberOf = (value: string | undefined) => Number(value || 0);

/** How a month goes at this moment, one's own or that of somebody whose work one sees. */
export function PerformancePage() {
  const { t } = useText();
  const [params, go] = useAddress();
  const employee = params.get("employee") ?? "";
  const month = params.get("month") ?? "";
  const query = useQuery({
    ...gotQuery<Appraisal>(
      ["list", "appraisals", "performance", employee, month],
      `/v1/appraisals:performance?${new URLSearchParams({ employee, month }).toString()}`,
    ),
    retry: false,
  });
  return (
    <Page title={t("page.performance")}>
      <div className="list-bar">
        <label className="row" htmlFor="performance-employee">
          {t("appraisal.who")}
        </label>
        <div className="bar-pick">
          <ReferencePicker
            id="performance-employee"
            collection="employees"
            value={employee}
            hint={t("appraisal.me")}
            onChange={(next) => go({ employee: typeof next === "string" ? next : "" })}
          />
        </div>
        <DatePicker
          picker="month"
          aria-label={t("appraisal.month")}
          allowClear={false}
          value={month ? dayjs(month) : dayjs()}
          onChange={(chosen) => chosen && go({ month: chosen.format("YYYY-MM") })}
        />
      </div>
      {query.error instanceof ApiError && query.error.reason === "NO_STANDARD" ? (
        <div className="card">
          <Empty title={query.error.message} />
        </div>
      ) : (
        <Loaded query={query} lines={8}>
          {(appraisal) => (
            <div className="stack">
              <Summary appraisal={appraisal} />
              <Figures appraisal={appraisal} />
              <h2>{t("appraisal.findings")}</h2>
              <Findings appraisal={appraisal} />
            </div>
          )}
        </Loaded>
      )}
    </Page>
  );
}

/** The place among the others is shown where the standard says so; else there is none. */
function Summary({ appraisal }: { appraisal: Appraisal }) {
  const { t, language } = useText();
  const rank = useQuery({
    ...gotQuery<Rank>(["record", appraisal.name, "rank"], `/v1/${appraisal.name}:rank`),
    // One that nobody has written down yet stands in no row.
    enabled: Boolean(appraisal.name),
    retry: false,
  }).data;
  const write = (value: string | undefined) => numberFormat(language).format(numberOf(value));
  const { efficiency, incentive } = appraisal;
  return (
    <>
      <div className="figures">
        <Figure label={t("appraisal.points")}>{write(appraisal.points)}</Figure>
        {rank?.rank ? (
          <Figure label={t("appraisal.rank")}>
            {t("appraisal.place", { rank: rank.rank, people: rank.people })}
          </Figure>
        ) : null}
        {efficiency?.perDay && (
          <Figure
            label={t("appraisal.perDay")}
            exact={efficiency.formula ?? ""}
            note={<small className="faint">{efficiency.formula}</small>}
          >
            {write(efficiency.perDay)}
          </Figure>
        )}
        {incentive?.title && <Figure label={t("appraisal.incentive")}>{incentive.title}</Figure>}
      </div>
      {(rank?.points ?? []).length > 1 && (
        <Bars
          title={t("appraisal.everybody")}
          series={[t("appraisal.points")]}
          bars={(rank?.points ?? []).map((points, index) => ({
            key: String(index),
            label: index + 1 === rank?.rank ? t("appraisal.here") : `#${index + 1}`,
            values: [numberOf(points)],
          }))}
        />
      )}
    </>
  );
}

function Figures({ appraisal }: { appraisal: Appraisal }) {
  const { t, label } = useText();
  const { fields } = useResource("appraisals");
  const inner = fields.find(({ name }) => name === "items")?.fields ?? [];
  const columns = ["metric", "weight", "target", "actual", "before", "middle", "points"].flatMap(
    (name) => inner.find((one) => one.name === name) ?? [],
  );
  const items = appraisal.items ?? [];
  if (items.length === 0)
    return (
      <section className="card">
        <Empty title={t("appraisal.noItems")} />
      </section>
    );
  return (
    <section className="card card-body">
      <PlainTable
        caption={t("appraisal.figures")}
        rows={items}
        keyOf={({ metric }, index) => metric ?? index}
        stacked
        columns={[
          ...columns.map((field) => ({
            key: field.name,
            title: label(field.label),
            number: field.name !== "metric",
            row: field.name === "metric",
            cell: (item: Item) => <Value field={field} item={item} />,
          })),
          {
            key: "formula",
            title: t("appraisal.how"),
            cell: (item: Item) => (
              <span className="faint">
                {item.formula} <Evidence item={item} />
              </span>
            ),
          },
        ]}
      />
    </section>
  );
}

function Value({ field, item }: { field: Field; item: Item }) {
  const { language } = useText();
  const value = item[field.name as keyof Item];
  if (field.name === "metric" || typeof value !== "string" || value === "")
    return <FieldValue field={field} value={value} />;
  return <>{numberFormat(language).format(Number(value))}</>;
}

/** The records behind a figure. */
function Evidence({ item }: { item: Item }) {
  const { t } = useText();
  const records = item.evidence ?? [];
  if (records.length === 0) return null;
  return (
    <details className="nested-rows">
      <summary>{t("appraisal.evidence", { count: records.length })}</summary>
      <ul>
        {records.map(({ record, value }) => (
          <li key={record}>
            <Reference name={record ?? ""} /> {value}
          </li>
        ))}
      </ul>
    </details>
  );
}

function Findings({ appraisal }: { appraisal: Appraisal }) {
  const { t, language } = useText();
  const findings = appraisal.findings ?? [];
  if (findings.length === 0)
    return (
      <section className="card">
        <Empty title={t("appraisal.noFindings")} />
      </section>
    );
  return (
    <ul className="stack">
      {findings.map((finding) => (
        <li key={finding.kind} className="card card-body">
          <p>{(language === "en" && finding.textEn) || finding.text}</p>
          {(finding.records ?? []).length > 0 && (
            <p className="row">
              {(finding.records ?? []).map((record) => (
                <Reference key={record} name={record} />
              ))}
            </p>
          )}
        </li>
      ))}
    </ul>
  );
}
