import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { useAddress } from "@/kit/address";
import { Page } from "@/kit/page";
import { firstPageQuery, titleOf, useCatalogue, useResource, useSession } from "@/kit/queries";
import { Segmented } from "@/kit/segmented";
import { Empty, Loaded } from "@/kit/states";
import { Due } from "./due";
import { PoolItems } from "./pool-items";
import { Quota } from "./quota";

const POOLS = 50;

/** Customers that wait for an owner, what I may still claim, and which of mine are about to go there. */
export function SeaPage() {
  const { t, language, noun } = useText();
  const session = useSession();
  const catalogue = useCatalogue();
  const resource = useResource("pools");
  const [params, go] = useAddress();
  const pools = useQuery(firstPageQuery("pools", { filter: 'state = "OPEN"', pageSize: POOLS }));
  const open = pools.data?.records ?? [];
  const mine = params.get("tab") === "mine";
  const pool = open.find(({ name }) => name === params.get("pool")) ?? open[0];
  const rules = catalogue.find("poolRules");

  return (
    <Page
      title={t("page.sea")}
      actions={
        <>
          <Segmented
            label={t("page.sea")}
            value={mine ? "mine" : ""}
            options={[
              { key: "", title: t("sea.waiting") },
              { key: "mine", title: t("sea.due") },
            ]}
            onChange={(tab) => go({ tab })}
          />
          {rules && may(session, rules.permissions.update) && (
            <Link className="button" to="/poolRules">
              {t("sea.rules")}
            </Link>
          )}
        </>
      }
    >
      {mine ? (
        <Due />
      ) : (
        <Loaded query={pools} lines={8}>
          {() =>
            !pool ? (
              <section className="card">
                <Empty title={t("sea.noPool")} text={t("sea.noPoolText")}>
                  {may(session, resource.permissions.create) && (
                    <Link className="button button-primary" to="/pools/new">
                      {t("form.newTitle", { what: noun(resource.label) })}
                    </Link>
                  )}
                </Empty>
              </section>
            ) : (
              <>
                <div className="list-bar">
                  <span className="chip-group" role="group" aria-label={t("sea.pools")}>
                    {open.map((one) => (
                      <button
                        key={one.name}
                        type="button"
                        className="chip"
                        aria-pressed={one === pool}
                        onClick={() => go({ pool: one.name })}
                      >
                        {titleOf(one, resource, language)}
                      </button>
                    ))}
                  </span>
                  <Link to={`/${pool.name}`}>{t("sea.poolPage")}</Link>
                </div>
                <Quota pool={pool.name} />
                <PoolItems key={pool.name} pool={pool} />
              </>
            )
          }
        </Loaded>
      )}
    </Page>
  );
}
