import { useQuery } from "@tanstack/react-query";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { formatInstant } from "@/kit/dates";
import { Figure } from "@/kit/figure";
import { gotQuery } from "@/kit/got";

type PoolQuota = Schema<"customer.PoolQuota">;

export const quotaQuery = (pool: string) =>
  gotQuery<PoolQuota>(["record", pool, "quota"], `/v1/${pool}:quota`);

const FIGURES = ["claimsToday", "claimsThisMonth", "viewsToday", "capacity"] as const;

/** What I may still do in a pool today. */
export function Quota({ pool }: { pool: string }) {
  const { t, language } = useText();
  const quota = useQuery(quotaQuery(pool)).data;
  if (!quota) return <div className="figures" aria-busy="true" />;
  return (
    <>
      {!quota.member && (
        <p className="banner" role="status">
          {t("sea.notMember")}
        </p>
      )}
      {quota.suspendedUntil && (
        <p className="banner" role="status">
          {t("sea.suspended", { time: formatInstant(quota.suspendedUntil, language) })}
        </p>
      )}
      <div className="figures">
        {FIGURES.map((key) => (
          <Figure key={key} label={t(`sea.quota.${key}`)}>
            {(quota[key] ?? 0) < 0 ? t("sea.unlimited") : (quota[key] ?? 0)}
          </Figure>
        ))}
      </div>
    </>
  );
}
