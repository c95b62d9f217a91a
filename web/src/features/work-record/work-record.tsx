import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { DatePicker } from "antd";
import dayjs from "dayjs";
import { request } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { useAddress } from "@/kit/address";
import { Reference } from "@/kit/field-value";
import { gotQuery } from "@/kit/got";
import { MorePages } from "@/kit/more-pages";
import { Page } from "@/kit/page";
import { PlainTable } from "@/kit/plain-table";
import { useResource } from "@/kit/queries";
import { ReferencePicker } from "@/kit/reference-picker";
import { Segmented } from "@/kit/segmented";
import { Empty, Loaded } from "@/kit/states";

type WorkRecord = Schema<"workspace.ReadWorkRecordResponse">;
type Period = Schema<"workspace.PeriodRecord">;
type Count = Schema<"workspace.WorkCount">;
type Facts = Schema<"workspace.ListWorkFactsResponse">;

const PICKERS = { DAY: "date", WEEK: "week", MONTH: "month", QUARTER: "quarter", YEAR: "year" } as const;
type Kind = keyof typeof PICKERS;
const PAGE = 50;

/** What somebody has done in a period and in those before it, each figure with the facts behind it. */
export function WorkRecordPage() {
  const { t, label } = useText();
  const [params, go] = useAddress();
  const { fields } = useResource("workSummaries");
  const kinds = fields.find(({ name }) => name === "period")?.choices ?? [];
  const period = (params.get("period") ?? "WEEK") as Kind;
  const day = params.get("day") ?? dayjs().format("YYYY-MM-DD");
  const employee = params.get("employee") ?? "";
  const asked = new URLSearchParams({ period, day, ...(employee ? { employee } : {}) });
  const query = useQuery(
    gotQuery<WorkRecord>(
      ["list", "workSummaries", "record", asked.toString()],
      `/v1/workSummaries:record?${asked}`,
    ),
  );
  // Another period or person has other facts: what was opened is closed.
  const look = (change: Record<string, string>) => go({ ...change, measure: "", from: "", to: "" });
  return (
    <Page title={t("page.workRecord")}>
      <div className="list-bar">
        <Segmented
          label={t("workRecord.period")}
          value={period}
          options={kinds.map((choice) => ({ key: choice.value as Kind, title: label(choice.label) }))}
          onChange={(next) => look({ period: next })}
        />
        <DatePicker
          picker={PICKERS[period]}
          aria-label={t("workRecord.day")}
          allowClear={false}
          value={dayjs(day)}
          onChange={(chosen) => chosen && look({ day: chosen.format("YYYY-MM-DD") })}
        />
        <label className="row" htmlFor="work-record-employee">
          {t("workRecord.who")}
        </label>
        <div className="bar-pick">
          <ReferencePicker
            id="work-record-employee"
            collection="employees"
            value={employee}
            hint={t("workRecord.me")}
            onChange={(next) => look({ employee: typeof next === "string" ? next : "" })}
          />
        </div>
      </div>
      <Loaded query={query} lines={8}>
        {({ periods = [] }) => (
          <div className="stack">
            <Figures
              periods={periods}
              onOpen={(measure, { startDay = "", endDay = "" }) =>
                go({ measure, from: startDay, to: endDay })
              }
            />
            {params.get("measure") && (
              <FactList
                asked={{
                  measure: params.get("measure") ?? "",
                  fromDay: params.get("from") ?? "",
                  toDay: params.get("to") ?? "",
                  ...(employee ? { employee } : {}),
                }}
              />
            )}
          </div>
        )}
      </Loaded>
    </Page>
  );
}

function useMeasures() {
  const { label } = useText();
  const { fields } = useResource("workSummaries");
  const inner = fields.find(({ name }) => name === "activity")?.fields ?? [];
  return (inner.find(({ name }) => name === "measure")?.choices ?? []).map(({ value, label: said }) => ({
    measure: value,
    title: label(said),
  }));
}

function Figures({
  periods,
  onOpen,
}: {
  periods: Period[];
  onOpen: (measure: string, period: Period) => void;
}) {
  const { t } = useText();
  const countOf = (period: Period, measure: string) =>
    period.counts?.find((count) => count.measure === measure);
  return (
    <section className="card card-body">
      <PlainTable
        caption={t("page.workRecord")}
        stacked
        rows={useMeasures()}
        keyOf={({ measure }) => measure}
        columns={[
          { key: "measure", title: t("workRecord.measure"), row: true, cell: ({ title }) => title },
          ...periods.map((period) => ({
            key: period.startDay ?? "",
            title: spanOf(period),
            number: true,
            cell: ({ measure, title }: { measure: string; title: string }) => (
              <Cell
                count={countOf(period, measure)}
                label={t("workRecord.open", { measure: title, period: spanOf(period) })}
                onOpen={() => onOpen(measure, period)}
              />
            ),
          })),
        ]}
      />
    </section>
  );
}

const spanOf = ({ startDay = "", endDay = "" }: Period) =>
  startDay === endDay ? startDay : `${startDay} – ${endDay}`;

/** One figure, with what was entered late, what the department does, and how fast the answers were. */
function Cell({ count, label, onOpen }: { count: Count | undefined; label: string; onOpen: () => void }) {
  const { t } = useText();
  const { count: number = 0, late = 0, departmentMedian = 0, medianMinutes = 0 } = count ?? {};
  return (
    <>
      {number ? (
        <button type="button" className="link" aria-label={`${label}: ${number}`} onClick={onOpen}>
          {number}
        </button>
      ) : (
        0
      )}
      {count && (
        <small className="faint">
          {late > 0 && <div>{t("workRecord.late", { count: late })}</div>}
          {departmentMedian >= 0 && <div>{t("workRecord.median", { count: departmentMedian })}</div>}
          {number > 0 && medianMinutes >= 0 && count.measure === "LEADS_ANSWERED" && (
            <div>{t("workRecord.minutes", { count: medianMinutes })}</div>
          )}
        </small>
      )}
    </>
  );
}

/** The records behind one figure. */
function FactList({ asked }: { asked: Record<string, string> }) {
  const { t } = useText();
  const title = useMeasures().find(({ measure }) => measure === asked["measure"])?.title ?? "";
  const pages = useInfiniteQuery({
    queryKey: ["list", "workSummaries", "facts", asked],
    initialPageParam: "",
    queryFn: async ({ pageParam, signal }) => {
      const params = new URLSearchParams({ ...asked, pageSize: String(PAGE), pageToken: pageParam });
      return (await (await request(`/v1/workSummaries:facts?${params}`, { signal })).json()) as Facts;
    },
    getNextPageParam: (last) => last.nextPageToken || undefined,
  });
  return (
    <section className="card card-body stack" aria-label={t("workRecord.facts")}>
      <h2>
        {title}{" "}
        <small className="faint">{spanOf({ startDay: asked["fromDay"], endDay: asked["toDay"] })}</small>
      </h2>
      <Loaded query={pages}>
        {({ pages: found }) => {
          const facts = found.flatMap((page) => page.facts ?? []);
          if (facts.length === 0) return <Empty title={t("workRecord.none")} />;
          return (
            <PlainTable
              caption={t("workRecord.facts")}
              rows={facts}
              keyOf={(_, index) => index}
              columns={[
                { key: "day", title: t("workRecord.day"), cell: ({ day }) => day },
                {
                  key: "source",
                  title: t("workRecord.source"),
                  row: true,
                  cell: ({ source }) => <Reference name={source ?? ""} />,
                },
                {
                  key: "late",
                  title: t("workRecord.entered"),
                  cell: ({ late }) => (late ? t("workRecord.later") : t("workRecord.sameDay")),
                },
              ]}
            />
          );
        }}
      </Loaded>
      <MorePages pages={pages} />
    </section>
  );
}
