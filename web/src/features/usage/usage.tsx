import { useQuery } from "@tanstack/react-query";
import { DatePicker } from "antd";
import dayjs from "dayjs";
import { useState } from "react";
import { Link } from "react-router";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { gotQuery } from "@/kit/got";
import { formatMoney, type Money } from "@/kit/money";
import { Page } from "@/kit/page";
import { PlainTable } from "@/kit/plain-table";
import { Segmented } from "@/kit/segmented";
import { Empty, Loaded } from "@/kit/states";

type Board = Schema<"workspace.UsageBoard">;
type Row = NonNullable<Board["people"]>[number];
type Side = "people" | "departments" | "rules";

const SIDES: Side[] = ["people", "departments", "rules"];
const DAY_MS = 86_400_000;
const iso = (day: Date) => day.toLocaleDateString("sv-SE");

/** How the rules of use were kept: by person, department and rule, with what waits for a decision. */
export function UsagePage() {
  const { t } = useText();
  const [side, setSide] = useState<Side>("departments");
  const [end, setEnd] = useState(() => iso(new Date()));
  const [start, setStart] = useState(() => iso(new Date(Date.now() - 30 * DAY_MS)));
  const asked = start <= end;
  const board = useQuery({
    ...gotQuery<Board>(
      ["list", "usageFindings", "board", start, end],
      `/v1/usageFindings:board?startDay=${start}&endDay=${end}`,
    ),
    enabled: asked,
  });
  return (
    <Page title={t("page.usage")}>
      <section className="card card-body stack">
        <div className="row">
          <Segmented
            label={t("usage.by")}
            value={side}
            options={SIDES.map((key) => ({ key, title: t(`usage.${key}`) }))}
            onChange={setSide}
          />
          {(
            [
              ["from", start, setStart],
              ["until", end, setEnd],
            ] as const
          ).map(([key, day, setDay]) => (
            <DatePicker
              key={key}
              aria-label={t(`usage.${key}`)}
              prefix={t(`usage.${key}`)}
              allowClear={false}
              value={dayjs(day)}
              onChange={(next) => next && setDay(next.format("YYYY-MM-DD"))}
            />
          ))}
        </div>
        {asked ? (
          <Loaded query={board}>
            {(found) =>
              found[side]?.length ? (
                <Rows side={side} rows={found[side]} />
              ) : (
                <Empty title={t("usage.none")} text={t("usage.noneText")} />
              )
            }
          </Loaded>
        ) : (
          <Empty title={t("usage.none")} text={t("usage.noneText")} />
        )}
      </section>
    </Page>
  );
}

function Rows({ side, rows }: { side: Side; rows: Row[] }) {
  const { t, language, comma } = useText();
  const percent = ({ people = 0, kept = 0 }: Row) => (people ? Math.round((100 * kept) / people) : 0);
  return (
    <PlainTable
      caption={t(`usage.${side}`)}
      stacked
      rows={rows}
      keyOf={({ name }) => name ?? ""}
      columns={[
        {
          key: "name",
          title: t(`usage.${side}`),
          row: true,
          cell: ({ name, displayName }) => <Link to={`/${name}`}>{displayName}</Link>,
        },
        ...(side === "departments"
          ? [
              {
                key: "kept",
                title: t("usage.kept"),
                cell: (row: Row) => (
                  <>
                    <span className="funnel-bar" aria-hidden="true">
                      <span style={{ width: `${percent(row)}%` }} />
                    </span>{" "}
                    {t("usage.keptOf", {
                      percent: percent(row),
                      kept: row.kept ?? 0,
                      people: row.people ?? 0,
                    })}
                  </>
                ),
              },
            ]
          : []),
        { key: "findings", title: t("usage.findings"), number: true, cell: ({ findings }) => findings ?? 0 },
        { key: "waiting", title: t("usage.waiting"), number: true, cell: ({ waiting }) => waiting ?? 0 },
        {
          key: "confirmed",
          title: t("usage.confirmed"),
          number: true,
          cell: ({ confirmed }) => confirmed ?? 0,
        },
        { key: "waived", title: t("usage.waived"), number: true, cell: ({ waived }) => waived ?? 0 },
        { key: "rewards", title: t("usage.rewards"), number: true, cell: ({ rewards }) => rewards ?? 0 },
        {
          key: "penalties",
          title: t("usage.penalties"),
          number: true,
          cell: ({ penalties = [] }) =>
            penalties.map((money) => formatMoney(money as Money, language)).join(comma) || "—",
        },
      ]}
    />
  );
}
