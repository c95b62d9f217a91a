import { useQuery } from "@tanstack/react-query";
import { InputNumber } from "antd";
import { useState } from "react";
import { Link } from "react-router";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { Figure } from "@/kit/figure";
import { GenericRecord } from "@/kit/generic-record";
import { post } from "@/kit/got";
import { formatMoney } from "@/kit/money";
import { PlainTable } from "@/kit/plain-table";
import { useResource } from "@/kit/queries";
import { Empty, Loaded } from "@/kit/states";

type Outcome = Schema<"sales.SimulatePolicyResponse">;

type Difference = Schema<"sales.SimulatePolicyResponse.Difference">;

const DAYS = 90;

/** A discount policy, with what it would have cost on the quotes of the days gone by. */
export function PolicyPage({ name }: { name: string }) {
  const { t } = useText();
  const resource = useResource("discountPolicies");
  return (
    <GenericRecord
      resource={resource}
      name={name}
      more={(record) => [
        { key: "simulation", label: t("poolRule.simulation"), content: <Simulation record={record} /> },
      ]}
    />
  );
}

function Simulation({ record }: { record: RecordJson }) {
  const { t, language } = useText();
  const [days, setDays] = useState(DAYS);
  const [asked, setAsked] = useState(0);
  const outcome = useQuery({
    queryKey: ["record", record.name, "simulation", asked, record.etag],
    queryFn: () => post<Outcome>(`/v1/${record.name}:simulate`, { days: asked }),
    enabled: asked > 0,
    retry: false,
  });
  return (
    <section className="card card-body stack">
      <form
        className="row"
        onSubmit={(event) => {
          event.preventDefault();
          setAsked(days);
        }}
      >
        <label htmlFor="policy-days">{t("policy.days")}</label>
        <InputNumber
          id="policy-days"
          min={1}
          max={365}
          value={days}
          onChange={(next) => setDays(next ?? DAYS)}
        />
        <button type="submit" className="button button-primary">
          {t("poolRule.simulation")}
        </button>
      </form>
      {asked === 0 ? (
        <Empty title={t("poolRule.notSimulated")} text={t("policy.text")} />
      ) : (
        <Loaded query={outcome} lines={4}>
          {(found) => (
            <>
              <div className="figures" role="status">
                <Figure label={t("policy.quotes")}>{found.quotes ?? 0}</Figure>
                <Figure label={t("policy.changed")}>{found.changed ?? 0}</Figure>
                <Figure label={t("policy.cost")}>
                  {(found.cost ?? []).map((one) => formatMoney(one, language)).join(" + ") || "—"}
                </Figure>
              </div>
              {(found.differences ?? []).length > 0 && (
                <PlainTable
                  caption={t("policy.changed")}
                  rows={found.differences ?? []}
                  keyOf={({ quote }) => quote ?? ""}
                  columns={[
                    {
                      key: "quote",
                      title: t("policy.quote"),
                      row: true,
                      cell: (one) => <Link to={`/${one.quote}`}>{one.number}</Link>,
                    },
                    ...(["before", "after"] as const).map((key) => ({
                      key,
                      title: t(`quote.${key}`),
                      number: true,
                      cell: (one: Difference) => formatMoney(one[key], language),
                    })),
                  ]}
                />
              )}
            </>
          )}
        </Loaded>
      )}
    </section>
  );
}
