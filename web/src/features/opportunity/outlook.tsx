import { useQuery } from "@tanstack/react-query";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { gotQuery } from "@/kit/got";
import { formatMoney } from "@/kit/money";
import { useCatalogue, useSession } from "@/kit/queries";

type Found = Schema<"sales.GetOpportunityOutlookResponse">;
type Estimate = Schema<"sales.EstimateCommissionResponse">;

/** What past deals of the same process say about this one, and what it would earn. */
export function Outlook({ name }: { name: string }) {
  const { t, language } = useText();
  const session = useSession();
  const entries = useCatalogue().find("commissionEntries");
  const outlook = useQuery(gotQuery<Found>(["record", name, "outlook"], `/v1/${name}:outlook`)).data;
  const estimate = useQuery({
    ...gotQuery<Estimate>(
      ["record", name, "commission"],
      `/v1/commissionEntries:estimate?opportunity=${encodeURIComponent(name)}`,
    ),
    enabled: entries !== undefined && may(session, entries.permissions.read),
    retry: false,
  }).data;
  if (!outlook) return null;
  return (
    <section className="card">
      <div className="card-head">
        <h2>{t("opportunity.outlook")}</h2>
      </div>
      <dl className="pairs card-body">
        <div>
          <dt>{t("opportunity.inStage")}</dt>
          <dd>{t("opportunity.days", { count: outlook.daysInStage ?? 0 })}</dd>
        </div>
        <div>
          <dt>{t("opportunity.needed")}</dt>
          <dd>
            {outlook.basis
              ? t("opportunity.days", { count: outlook.daysNeeded ?? 0 })
              : t("opportunity.noBasis", { count: outlook.won ?? 0 })}
          </dd>
        </div>
        <div>
          <dt>{t("opportunity.chance")}</dt>
          <dd>
            {(outlook.closed ?? 0) > 0 && outlook.winPercent
              ? t("opportunity.interval", {
                  percent: outlook.winPercent,
                  low: outlook.lowestPercent,
                  high: outlook.highestPercent,
                  count: outlook.closed,
                })
              : t("opportunity.noBasis", { count: outlook.closed ?? 0 })}
          </dd>
        </div>
        {estimate?.amount && (
          <div>
            <dt>{t("opportunity.commission")}</dt>
            <dd>{t("opportunity.ifPaid", { amount: formatMoney(estimate.amount, language) })}</dd>
          </div>
        )}
      </dl>
    </section>
  );
}
