import { useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { Drawer } from "antd";
import { useState } from "react";
import { useNavigate } from "react-router";
import { act, type RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { fieldsNamed } from "@/kit/columns";
import { formatRelative } from "@/kit/dates";
import { allOf, quote } from "@/kit/filter";
import { columnOf, PagedTable, type Column } from "@/kit/plain-table";
import { pagesQuery, titleOf, useResource, useSession } from "@/kit/queries";
import { RecordFields } from "@/kit/record-fields";
import { useSettled } from "@/kit/settled";
import { Empty } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf, VerbDialog } from "@/kit/verbs";
import { quotaQuery } from "./quota";

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
  const title = (item: RecordJson) => titleOf(item, resource, language);
  const pick = (account: string) =>
    setPicked((before) => {
      const next = new Set(before);
      if (!next.delete(account)) next.add(account);
      return next;
    });
  const columns: Column<RecordJson>[] = [
    {
      key: "customer",
      title: t("sea.customer"),
      row: true,
      cell: (item) => (
        <>
          <button type="button" className="link" onClick={() => void look(item)}>
            {title(item)}
          </button>
          {refused[item.name] && <p className="field-error">{refused[item.name]}</p>}
        </>
      ),
    },
    ...fieldsNamed(resource.fields, SHOWN).map((field) => {
      const column = columnOf(field, label);
      if (field.kind !== "instant") return column;
      const ago = (item: RecordJson) => formatRelative(String(item[field.name]), language);
      return { ...column, cell: (item: RecordJson) => (item[field.name] ? ago(item) : "—") };
    }),
    {
      key: "claim",
      title: t("action.more"),
      hidden: true,
      number: true,
      cell: (item) =>
        mayClaim && (
          <button
            type="button"
            className="button"
            aria-label={t("sea.claimOne", { title: title(item) })}
            disabled={busy === item.name}
            onClick={() => void take(item)}
          >
            {t("sea.claim")}
          </button>
        ),
    },
  ];
  if (verbs.length > 0)
    columns.unshift({
      key: "pick",
      title: t("list.selection"),
      hidden: true,
      cell: (item) => (
        <input
          type="checkbox"
          aria-label={t("sea.pick", { title: title(item) })}
          checked={picked.has(String(item["account"]))}
          onChange={() => pick(String(item["account"]))}
        />
      ),
    });

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
        <PagedTable
          caption={t("sea.waiting")}
          pages={pages}
          lines={8}
          none={<Empty title={t(q ? "list.noneFiltered" : "sea.empty")} />}
          stacked
          columns={columns}
        />
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
