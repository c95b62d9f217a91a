import { useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { Drawer } from "antd";
import { useState } from "react";
import { useNavigate } from "react-router";
import { act, type RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { formatRelative } from "@/kit/dates";
import { FieldValue } from "@/kit/field-value";
import { allOf, quote } from "@/kit/filter";
import { pagesQuery, titleOf, useResource, useSession } from "@/kit/queries";
import { RecordFields } from "@/kit/record-fields";
import { ScrollBox } from "@/kit/scroll-box";
import { useSettled } from "@/kit/settled";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf, VerbDialog } from "@/kit/verbs";
import { quotaQuery } from "./quota";
import { MorePages } from "@/kit/more-pages";

const PAGE = 30;
const SHOWN = ["industry", "level", "source", "how", "pooledTime", "lastInteractionTime"];

/** The customers of a pool as its members see them; who is refused a claim reads why beside it. */
export function PoolItems({ pool }: { pool: RecordJson }) {
  const { t, language, label } = useText();
  const client = useQueryClient();
  const navigate = useNavigate();
  const session = useSession();
  const resource = useResource("poolItems");
  const pools = useResource("pools");
  const accounts = useResource("accounts");
  const [typed, setTyped] = useState("");
  const q = useSettled(typed.trim());
  const pages = useInfiniteQuery({
    ...pagesQuery("poolItems", {
      q,
      filter: allOf(`pool = ${quote(pool.name)}`),
      orderBy: q ? "" : "pooledTime desc",
      pageSize: PAGE,
    }),
    placeholderData: (before) => before,
  });
  const quota = useQuery(quotaQuery(pool.name)).data;
  const [refused, setRefused] = useState<Record<string, string>>({});
  const [busy, setBusy] = useState<string>();
  const [opened, setOpened] = useState<{ item: RecordJson; account: RecordJson }>();
  const [picked, setPicked] = useState<ReadonlySet<string>>(new Set());
  const [asking, setAsking] = useState<string>();

  const items = pages.data?.pages.flatMap((page) => page.records) ?? [];
  const fields = SHOWN.flatMap((name) => resource.fields.find((field) => field.name === name) ?? []);
  const claim = accounts.verbs.find((verb) => verb.name === "claim" && verb.onRecord);
  const mayClaim = claim !== undefined && may(session, claim.permission) && quota?.member === true;
  const managing = ((pool["managers"] as string[] | undefined) ?? []).includes(session.employee ?? "");
  const verbs = managing
    ? pools.verbs.filter(
        (verb) => ["assignItems", "transferItems"].includes(verb.name) && may(session, verb.permission),
      )
    : [];
  const asked = verbs.find((verb) => verb.name === asking);

  const renew = () => {
    void client.invalidateQueries({ queryKey: ["list", "poolItems"] });
    void client.invalidateQueries({ queryKey: ["list", "accounts"] });
    void client.invalidateQueries({ queryKey: ["record", pool.name] });
  };
  const refuse = (item: RecordJson, error: unknown) => {
    setRefused((before) => ({ ...before, [item.name]: messageOf(error) }));
    tell(messageOf(error), "bad", { detail: titleOf(item, resource, language) });
  };
  const take = async (item: RecordJson) => {
    const account = String(item["account"]);
    setBusy(item.name);
    setRefused(({ [item.name]: _, ...others }) => others);
    try {
      await act(account, "claim", {}, undefined, crypto.randomUUID());
      setOpened(undefined);
      tell(t("sea.claimed", { title: titleOf(item, resource, language) }), "good", {
        action: { label: t("action.open"), run: () => void navigate(`/${account}`) },
      });
    } catch (error) {
      refuse(item, error);
    } finally {
      setBusy(undefined);
      renew();
    }
  };
  const look = async (item: RecordJson) => {
    try {
      setOpened({ item, account: await act(item.name, "open", {}) });
    } catch (error) {
      refuse(item, error);
    } finally {
      void client.invalidateQueries({ queryKey: ["record", pool.name] });
    }
  };

  return (
    <section className="card" aria-label={t("sea.waiting")}>
      <div className="card-head">
        <label className="search-field">
          <span className="visually-hidden">{t("list.search")}</span>
          <input
            type="search"
            value={typed}
            placeholder={t("list.search")}
            onChange={(event) => setTyped(event.target.value)}
          />
        </label>
        <span className="grow" />
        {verbs.map((verb) => (
          <button
            key={verb.name}
            type="button"
            className="button"
            disabled={picked.size === 0}
            onClick={() => setAsking(verb.name)}
          >
            {label(verb.label)} {picked.size > 0 && picked.size}
          </button>
        ))}
      </div>
      <div className="card-body">
        {pages.isError ? (
          <ErrorNote error={pages.error} onRetry={() => void pages.refetch()} />
        ) : pages.isPending ? (
          <Skeleton lines={8} />
        ) : items.length === 0 ? (
          <Empty title={t(q ? "list.noneFiltered" : "sea.empty")} />
        ) : (
          <ScrollBox label={t("sea.waiting")} className="stacked">
            <table className="plain">
              <caption className="visually-hidden">{t("sea.waiting")}</caption>
              <thead>
                <tr>
                  {verbs.length > 0 && (
                    <th scope="col">
                      <span className="visually-hidden">{t("sea.customer")}</span>
                    </th>
                  )}
                  <th scope="col">{t("sea.customer")}</th>
                  {fields.map((field) => (
                    <th key={field.name} scope="col">
                      {label(field.label)}
                    </th>
                  ))}
                  <th scope="col">
                    <span className="visually-hidden">{t("action.more")}</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {items.map((item) => {
                  const title = titleOf(item, resource, language);
                  return (
                    <tr key={item.name}>
                      {verbs.length > 0 && (
                        <td>
                          <input
                            type="checkbox"
                            aria-label={t("sea.pick", { title })}
                            checked={picked.has(String(item["account"]))}
                            onChange={() => {
                              const next = new Set(picked);
                              if (!next.delete(String(item["account"]))) next.add(String(item["account"]));
                              setPicked(next);
                            }}
                          />
                        </td>
                      )}
                      <th scope="row">
                        <button type="button" className="link" onClick={() => void look(item)}>
                          {title}
                        </button>
                        {refused[item.name] && <p className="field-error">{refused[item.name]}</p>}
                      </th>
                      {fields.map((field) => (
                        <td key={field.name} data-label={label(field.label)}>
                          {field.kind === "instant" && item[field.name] ? (
                            formatRelative(String(item[field.name]), language)
                          ) : (
                            <FieldValue field={field} value={item[field.name]} />
                          )}
                        </td>
                      ))}
                      <td className="number">
                        {mayClaim && (
                          <button
                            type="button"
                            className="button"
                            aria-label={t("sea.claimOne", { title })}
                            disabled={busy === item.name}
                            onClick={() => void take(item)}
                          >
                            {t("sea.claim")}
                          </button>
                        )}
                      </td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          </ScrollBox>
        )}
        <MorePages pages={pages} />
      </div>
      {opened && (
        <Drawer
          open
          size={480}
          title={titleOf(opened.item, resource, language)}
          onClose={() => setOpened(undefined)}
          footer={
            mayClaim && (
              <button
                type="button"
                className="button button-primary"
                disabled={busy === opened.item.name}
                onClick={() => void take(opened.item)}
              >
                {t("sea.claim")}
              </button>
            )
          }
        >
          {((pool["hiddenFields"] as string[] | undefined) ?? []).length > 0 && (
            <p className="note">{t("sea.hidden")}</p>
          )}
          {refused[opened.item.name] && <p className="field-error">{refused[opened.item.name]}</p>}
          <RecordFields resource={accounts} record={opened.account} />
        </Drawer>
      )}
      {asked && (
        <VerbDialog
          resource={pools}
          record={pool}
          verb={asked}
          initial={{ accounts: [...picked] }}
          onClose={(done) => {
            setAsking(undefined);
            if (done) setPicked(new Set());
            renew();
          }}
        />
      )}
    </section>
  );
}
