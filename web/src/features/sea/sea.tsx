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
import { LEAD_POOLS, SEA, type Kind } from "./kinds";
import { PoolItems } from "./pool-items";
import { Quota } from "./quota";

const POOLS = 50;

export const SeaPage = () => <Pools kind={SEA} />;

export const LeadPoolsPage = () => <Pools kind={LEAD_POOLS} />;

/** What waits for an owner, what I may still claim, and what of mine is about to go there. */
function Pools({ kind }: { kind: Kind }) {
  const { t, language, noun } = useText();
  const session = useSession();
  const catalogue = useCatalogue();
  const resource = useResource(kind.pools);
  const [params, go] = useAddress();
  const pools = useQuery(firstPageQuery(kind.pools, { filter: 'state = "OPEN"', pageSize: POOLS }));
  const open = pools.data?.records ?? [];
  const mine = params.get("tab") === "mine";
  const pool = open.find(({ name }) => name === params.get("pool")) ?? open[0];
  const rules = catalogue.find(kind.rules);

  return (
    <Page
      title={t(`page.${kind.page}`)}
      actions={
        <>
          <Segmented
            label={t(`page.${kind.page}`)}
            value={mine ? "mine" : ""}
            options={[
              { key: "", title: t(`pool.${kind.words}.waiting`) },
              { key: "mine", title: t(`pool.${kind.words}.due`) },
            ]}
            onChange={(tab) => go({ tab })}
          />
          {rules && may(session, rules.permissions.update) && (
            <Link className="button" to={`/${kind.rules}`}>
              {t("sea.rules")}
            </Link>
          )}
        </>
      }
    >
      {mine ? (
        <Due kind={kind} />
      ) : (
        <Loaded query={pools} lines={8}>
          {() =>
            !pool ? (
              <section className="card">
                <Empty title={t(`pool.${kind.words}.noPool`)} text={t(`pool.${kind.words}.noPoolText`)}>
                  {may(session, resource.permissions.create) && (
                    <Link className="button button-primary" to={`/${kind.pools}/new`}>
                      {t("form.newTitle", { what: noun(resource.label) })}
                    </Link>
                  )}
                </Empty>
              </section>
            ) : (
              <>
                <div className="list-bar">
                  <span className="chip-group" role="group" aria-label={t(`pool.${kind.words}.pools`)}>
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
                  <Link to={`/${pool.name}`}>{t(`pool.${kind.words}.poolPage`)}</Link>
                </div>
                {kind.counted && <Quota pool={pool.name} />}
                <PoolItems key={pool.name} kind={kind} pool={pool} />
              </>
            )
          }
        </Loaded>
      )}
    </Page>
  );
}
