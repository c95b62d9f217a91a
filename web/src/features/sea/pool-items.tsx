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
import { SearchField } from "@/kit/search-field";
import { useSettled } from "@/kit/settled";
import { Empty } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf, VerbDialog } from "@/kit/verbs";
import type { Kind } from "./kinds";
import { quotaQuery } from "./quota";

const PAGE = 30;

/** What waits in a pool as its members see it; who is refused a claim reads why beside it. */
export function PoolItems({ kind, pool }: { kind: Kind; pool: RecordJson }) {
  const { t, language, label } = useText();
  const client = useQueryClient();
  const navigate = useNavigate();
  const session = useSession();
  const resource = useResource(kind.items);
  const pools = useResource(kind.pools);
  const waiting = useResource(kind.collection);
  const [typed, setTyped] = useState("");
  const q = useSettled(typed.trim());
  const pages = useInfiniteQuery({
    ...pagesQuery(kind.items, {
      q,
      filter: allOf(`pool = ${quote(pool.name)}`),
      orderBy: q ? "" : "pooledTime desc",
      pageSize: PAGE,
    }),
    placeholderData: (before) => before,
  });
  const quota = useQuery({ ...quotaQuery(pool.name), enabled: kind.counted }).data;
  const [refused, setRefused] = useState<Record<string, string>>({});
  const [busy, setBusy] = useState<string>();
  const [opened, setOpened] = useState<{ item: RecordJson; record: RecordJson }>();
  const [picked, setPicked] = useState<ReadonlySet<string>>(new Set());
  const [asking, setAsking] = useState<string>();

  const claim = waiting.verbs.find((verb) => verb.name === "claim" && verb.onRecord);
  const mayClaim =
    claim !== undefined && may(session, claim.permission) && (!kind.counted || quota?.member === true);
  const managing = ((pool["managers"] as string[] | undefined) ?? []).includes(session.employee ?? "");
  const verbs = managing
    ? pools.verbs.filter((verb) => kind.managing.includes(verb.name) && may(session, verb.permission))
    : [];
  const asked = verbs.find((verb) => verb.name === asking);

  const renew = () => {
    void client.invalidateQueries({ queryKey: ["list", kind.items] });
    void client.invalidateQueries({ queryKey: ["list", kind.collection] });
    void client.invalidateQueries({ queryKey: ["record", pool.name] });
  };
  const refuse = (item: RecordJson, error: unknown) => {
    setRefused((before) => ({ ...before, [item.name]: messageOf(error) }));
    tell(messageOf(error), "bad", { detail: titleOf(item, resource, language) });
  };
  const take = async (item: RecordJson) => {
    const name = String(item[kind.field]);
    setBusy(item.name);
    setRefused(({ [item.name]: _, ...others }) => others);
    try {
      await act(name, "claim", {}, undefined, crypto.randomUUID());
      setOpened(undefined);
      tell(t("sea.claimed", { title: titleOf(item, resource, language) }), "good", {
        action: { label: t("action.open"), run: () => void navigate(`/${name}`) },
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
      setOpened({ item, record: await act(item.name, "open", {}) });
    } catch (error) {
      refuse(item, error);
    } finally {
      void client.invalidateQueries({ queryKey: ["record", pool.name] });
    }
  };
  const title = (item: RecordJson) => titleOf(item, resource, language);
  const pick = (name: string) =>
    setPicked((before) => {
      const next = new Set(before);
      if (!next.delete(name)) next.add(name);
      return next;
    });
  const columns: Column<RecordJson>[] = [
    {
      key: "customer",
      title: t(`pool.${kind.words}.item`),
      row: true,
      cell: (item) => (
        <>
          {kind.counted ? (
            <button type="button" className="link" onClick={() => void look(item)}>
              {title(item)}
            </button>
          ) : (
            title(item)
          )}
          {refused[item.name] && <p className="field-error">{refused[item.name]}</p>}
        </>
      ),
    },
    ...fieldsNamed(resource.fields, kind.shown).map((field) => {
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
          checked={picked.has(String(item[kind.field]))}
          onChange={() => pick(String(item[kind.field]))}
        />
      ),
    });

  return (
    <section className="card" aria-label={t(`pool.${kind.words}.waiting`)}>
      <div className="card-head">
        <SearchField label={t("list.search")} value={typed} onChange={setTyped} />
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
          caption={t(`pool.${kind.words}.waiting`)}
          pages={pages}
          lines={8}
          none={<Empty title={t(q ? "list.noneFiltered" : `pool.${kind.words}.empty`)} />}
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
          <RecordFields resource={waiting} record={opened.record} />
        </Drawer>
      )}
      {asked && (
        <VerbDialog
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
