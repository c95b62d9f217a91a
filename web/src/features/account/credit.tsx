import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { useText } from "@/i18n";
import { formatDate, type DateJson } from "@/kit/dates";
import { FieldValue } from "@/kit/field-value";
import { quote } from "@/kit/filter";
import { formatMoney, type Money } from "@/kit/money";
import { firstPageQuery, useResource } from "@/kit/queries";

/** The credit of the customer beside its record: grade, what is used of the limit, until when it holds. */
export function Credit({ account }: { account: string }) {
  const { t, language } = useText();
  const resource = useResource("creditProfiles");
  const found = useQuery(
    firstPageQuery("creditProfiles", { filter: `account = ${quote(account)}`, pageSize: 1 }),
  );
  const profile = found.data?.records[0];
  if (!profile) return null;
  const field = (name: string) => resource.fields.find((one) => one.name === name);
  const [limit, used, available] = ["limit", "used", "available"].map(
    (name) => profile[name] as Partial<Money> | undefined,
  );
  const part = Math.min(100, Math.max(0, (Number(used?.amount ?? 0) / (Number(limit?.amount) || 1)) * 100));
  const [grade, state] = [field("grade"), field("state")];
  return (
    <section className="card">
      <div className="card-head">
        <h2>{t("credit.title")}</h2>
        <span className="grow" />
        <Link to={`/${profile.name}`}>{t("action.open")}</Link>
      </div>
      <div className="card-body stack-small">
        <p className="values">
          {grade && profile["grade"] ? (
            <strong>
              <FieldValue field={grade} value={profile["grade"]} />
            </strong>
          ) : (
            t("credit.noGrade")
          )}{" "}
          {state && <FieldValue field={state} value={profile["state"]} />}
        </p>
        {limit?.amount && (
          <>
            <span className="funnel-bar" aria-hidden="true">
              <span style={{ width: `${part}%` }} />
            </span>
            <p>
              {t("credit.used", {
                used: formatMoney(used, language) || "0",
                limit: formatMoney(limit, language),
              })}
            </p>
            <p className="faint">
              {t("credit.available", { amount: formatMoney(available, language) || "0" })}
            </p>
          </>
        )}
        {Boolean(profile["validUntilDate"]) && (
          <p className="faint">
            {t("credit.until", { day: formatDate(profile["validUntilDate"] as DateJson, language) })}
          </p>
        )}
      </div>
    </section>
  );
}
