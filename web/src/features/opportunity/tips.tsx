import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { Reference } from "@/kit/field-value";
import { gotQuery } from "@/kit/got";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";

type Found = Schema<"sales.SuggestTipsResponse">;

/** What colleagues wrote for this stage and these products. */
export function Tips({ name }: { name: string }) {
  const { t } = useText();
  const tips = useQuery(gotQuery<Found>(["record", name, "tips"], `/v1/${name}:tips`));
  if (tips.isError) return <ErrorNote error={tips.error} onRetry={() => void tips.refetch()} />;
  if (tips.isPending) return <Skeleton lines={4} />;
  const found = tips.data.tips ?? [];
  if (found.length === 0)
    return (
      <section className="card">
        <Empty title={t("opportunity.noTips")} text={t("opportunity.noTipsText")}>
          <Link className="button" to="/tips">
            {t("opportunity.allTips")}
          </Link>
        </Empty>
      </section>
    );
  return (
    <div className="stack">
      {found.map((tip) => (
        <article key={tip.name} className="card card-body">
          <h2>
            <Link to={`/${tip.name}`}>{tip.displayName}</Link>
          </h2>
          <p className="prose">{tip.text}</p>
          <p className="faint">{tip.owner && <Reference name={tip.owner} link={false} />}</p>
        </article>
      ))}
    </div>
  );
}
