import { useQuery } from "@tanstack/react-query";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { formatDate } from "@/kit/dates";
import { FieldValue } from "@/kit/field-value";
import { Figure } from "@/kit/figure";
import { gotQuery } from "@/kit/got";
import { GradingTable } from "@/kit/grading-table";
import { useResource } from "@/kit/queries";
import { RelatedList } from "@/kit/related-list";
import { Loaded } from "@/kit/states";

type Grading = Schema<"customer.AccountGrading">;

/** Why a customer has its level, what the rule would give, and how it came to it. */
export function Grade({ account }: { account: string }) {
  const { t, language } = useText();
  const level = useResource("accounts").fields.find(({ name }) => name === "level");
  const grades = useResource("accountGrades");
  const field = grades.fields.find(({ name }) => name === "account");
  const grading = useQuery(gotQuery<Grading>(["record", account, "grading"], `/v1/${account}:grading`));
  return (
    <div className="stack">
      <Loaded query={grading}>
        {(found) => (
          <>
            <div className="figures">
              <Figure
                label={t("grading.now")}
                note={
                  found.untilDate && (
                    <small className="faint">
                      {t("grading.until", { day: formatDate(found.untilDate, language) })}
                    </small>
                  )
                }
              >
                {level && <FieldValue field={level} value={found.level} />}
              </Figure>
              {found.rule && (
                <>
                  <Figure label={t("grading.byRule")}>
                    {level && <FieldValue field={level} value={found.byRule} />}
                  </Figure>
                  <Figure label={t("grading.points")}>{found.points ?? 0}</Figure>
                </>
              )}
            </div>
            {(found.results ?? []).length > 0 && (
              <section className="card card-body">
                <GradingTable results={found.results ?? []} points={found.points ?? 0} />
              </section>
            )}
          </>
        )}
      </Loaded>
      {field && <RelatedList resource={grades} field={field} name={account} />}
    </div>
  );
}
