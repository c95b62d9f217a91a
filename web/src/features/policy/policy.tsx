import { useQuery } from "@tanstack/react-query";
import { InputNumber } from "antd";
import { useState } from "react";
import { Link } from "react-router";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { GenericRecord } from "@/kit/generic-record";
import { post } from "@/kit/got";
import { formatMoney } from "@/kit/money";
import { useResource } from "@/kit/queries";
import { ScrollBox } from "@/kit/scroll-box";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";

type Outcome = Schema<"sales.SimulatePolicyResponse">;

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
      ) : outcome.isError ? (
        <ErrorNote error={outcome.error} onRetry={() => void outcome.refetch()} />
      ) : outcome.isPending ? (
        <Skeleton lines={4} />
      ) : (
        <>
          <div className="figures" role="status">
            <div className="card figure">
              <span className="faint">{t("policy.quotes")}</span>
              <strong>{outcome.data.quotes ?? 0}</strong>
            </div>
            <div className="card figure">
              <span className="faint">{t("policy.changed")}</span>
              <strong>{outcome.data.changed ?? 0}</strong>
            </div>
            <div className="card figure">
              <span className="faint">{t("policy.cost")}</span>
              <strong>
                {(outcome.data.cost ?? []).map((one) => formatMoney(one, language)).join(" + ") || "—"}
              </strong>
            </div>
          </div>
          {(outcome.data.differences ?? []).length > 0 && (
            <ScrollBox label={t("policy.changed")}>
              <table className="plain">
                <caption className="visually-hidden">{t("policy.changed")}</caption>
                <thead>
                  <tr>
                    <th scope="col">{t("policy.quote")}</th>
                    <th scope="col" className="number">
                      {t("quote.before")}
                    </th>
                    <th scope="col" className="number">
                      {t("quote.after")}
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {(outcome.data.differences ?? []).map((one) => (
                    <tr key={one.quote}>
                      <th scope="row">
                        <Link to={`/${one.quote}`}>{one.number}</Link>
                      </th>
                      <td className="number">{formatMoney(one.before, language)}</td>
                      <td className="number">{formatMoney(one.after, language)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </ScrollBox>
          )}
        </>
      )}
    </section>
  );
}
