import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { AdviceProps } from "@/advice";
import { request } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { Reference } from "@/kit/field-value";
import { useSettled } from "@/kit/settled";
import { HitActions } from "./hit-actions";

const ASKED = [
  "displayName",
  "kind",
  "legalName",
  "taxId",
  "phones",
  "emails",
  "website",
  "familyName",
  "givenName",
];
const SHOWN = 5;

/** Who is there already under such a name, number or address; what is typed stays. */
export function CollisionAdvice({ values }: AdviceProps) {
  const { t, comma } = useText();
  const account = JSON.stringify(
    Object.fromEntries(ASKED.flatMap((name) => (values[name] ? [[name, values[name]]] : []))),
  );
  const settled = useSettled(account);
  const asked = JSON.parse(settled) as { displayName?: string };
  const fresh = !values["name"] && (asked.displayName ?? "").trim().length > 1;
  const answer = useQuery({
    queryKey: ["account-collision", settled],
    queryFn: async () => {
      const response = await request("/v1/accounts:checkCollision", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ account: asked }),
      });
      return (await response.json()) as Schema<"customer.CheckAccountCollisionResponse">;
    },
    enabled: fresh,
    // What is half typed may be no account yet: the form itself says what is wrong with it.
    retry: false,
    placeholderData: keepPreviousData,
  });
  const hits = answer.data?.hits ?? [];
  if (!fresh || hits.length === 0) return null;
  return (
    <div className="advice advice-warn" role="status">
      <strong>{t("collision.title", { count: hits.length })}</strong>
      <ul>
        {hits.slice(0, SHOWN).map((hit, index) => (
          <li key={hit.account || index}>
            {hit.account ? (
              <Link to={`/${hit.account}`} target="_blank">
                {hit.displayName}
              </Link>
            ) : (
              t("collision.hidden")
            )}
            {(hit.departmentName || hit.department) && (
              <>
                {" · "}
                {hit.departmentName || <Reference name={hit.department ?? ""} link={false} />}
              </>
            )}{" "}
            <span className={`tag tag-${hit.level === "CERTAIN" ? "bad" : "warn"}`}>
              {t(`collision.level.${hit.level}`)}
            </span>{" "}
            <span className="faint">
              {(hit.matchedBy ?? [])
                .map((key) => t(`collision.by.${key}`, { defaultValue: "" }))
                .filter(Boolean)
                .join(comma)}
            </span>
            {hit.token && (
              <>
                <p className="faint">
                  {[
                    t(`collision.situation.${hit.situation}`, { defaultValue: "" }),
                    hit.sinceMonth && t("collision.since", { month: hit.sinceMonth }),
                  ]
                    .filter(Boolean)
                    .join(" · ")}
                </p>
                <HitActions key={hit.account || hit.situation} hit={hit} />
              </>
            )}
          </li>
        ))}
      </ul>
    </div>
  );
}
