import { DownOutlined, RightOutlined } from "@ant-design/icons";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type KeyboardEvent } from "react";
import { Link } from "react-router";
import type { Choice, Verb } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { formatInstant } from "@/kit/dates";
import { encodeFilter } from "@/kit/filter";
import { gotQuery, post } from "@/kit/got";
import { groupBy } from "@/kit/group-by";
import { MenuButton } from "@/kit/menu-button";
import { useCatalogue, useResource, useSession } from "@/kit/queries";
import { SearchField } from "@/kit/search-field";
import { Empty, Refused } from "@/kit/states";
import { messageOf, VerbDialog } from "@/kit/verbs";

export type Entry = Schema<"workspace.Dictionary.Entry">;
type Uses = Schema<"workspace.DictionaryUses">;
type Use = NonNullable<Uses["uses"]>[number];

/** Answers come in one after the other: this often one looks, for so long. */
const AGAIN_MS = 1_500;
const ANSWERS_MS = 15_000;
/** So many stand open at once; of more only the branches that one opens. */
const OPEN_AT_MOST = 200;

/** The entries below one another. */
export function Entries({ dictionary }: { dictionary: RecordJson }) {
  const { t, language, label } = useText();
  const client = useQueryClient();
  const session = useSession();
  const resource = useResource("dictionaries");
  const entries = (dictionary["entries"] ?? []) as Entry[];
  const [typed, setTyped] = useState("");
  const [turned, setTurned] = useState<ReadonlySet<string>>(new Set());
  const [asked, setAsked] = useState(0);
  const [failure, setFailure] = useState("");
  const [doing, setDoing] = useState<{ verb: Verb; key: string }>();
  const verbs = ["retireEntry", "mergeEntry"].flatMap((name) => {
    const verb = resource.verbs.find((one) => one.name === name);
    return verb && may(session, verb.permission) ? [verb] : [];
  });
  const count = resource.verbs.find(({ name }) => name === "countUses");
  const key = ["record", dictionary.name, "uses"] as const;
  const uses = useQuery({
    ...gotQuery<Uses>(key, `/v1/${dictionary.name}:uses`),
    refetchInterval: () => Date.now() - asked < ANSWERS_MS && AGAIN_MS,
  }).data;
  const used = groupBy(uses?.uses ?? [], (use) => use.entry ?? "");

  const ask = async () => {
    setFailure("");
    try {
      await post(`/v1/${dictionary.name}:countUses`, {});
      setAsked(Date.now());
      void client.invalidateQueries({ queryKey: key });
    } catch (error) {
      setFailure(messageOf(error));
    }
  };

  const keys = new Set(entries.map((entry) => entry.key));
  const above = new Map(entries.map((entry) => [entry.key, entry.parent ?? ""]));
  const below = groupBy(entries, (entry) => (keys.has(entry.parent ?? "") ? (entry.parent ?? "") : ""));
  const wanted = typed.trim().toLowerCase();
  const hits = entries.filter(({ key, label }) =>
    [key, label?.zh, label?.en].some((text) => text?.toLowerCase().includes(wanted)),
  );
  // What is found stands there with everything above it.
  const shown = wanted ? new Set(hits.flatMap(({ key }) => pathOf(key ?? "", above))) : undefined;
  const opens = (key: string) =>
    shown ? hits.length <= OPEN_AT_MOST : entries.length <= OPEN_AT_MOST !== turned.has(key);
  const nameOf = (entry: Entry) =>
    label({ zh: entry.label?.zh ?? "", en: entry.label?.en ?? "" }) || entry.key;

  const others = (key: string) =>
    entries
      .filter((entry) => entry.key !== key && entry.published && !entry.retired)
      .map((entry) => ({
        value: entry.key ?? "",
        label: { zh: `${nameOf(entry)} (${entry.key})`, en: `${nameOf(entry)} (${entry.key})` },
      }));

  const level = (parent: string, depth: number) =>
    (below[parent] ?? [])
      .filter((entry) => !shown || shown.has(entry.key ?? ""))
      .map((entry) => {
        const own = entry.key ?? "";
        const leaf = !below[own];
        const open = !leaf && opens(own);
        const turn = () => {
          const next = new Set(turned);
          if (!next.delete(own)) next.add(own);
          setTurned(next);
        };
        return (
          <li key={own} role="none">
            <div
              role="treeitem"
              aria-level={depth}
              aria-expanded={leaf ? undefined : open}
              aria-selected={false}
              tabIndex={0}
              className="tree-node"
              onKeyDown={(event) => press(event, leaf ? undefined : open, turn)}
            >
              {leaf ? (
                <span className="tree-toggle" />
              ) : (
                <button
                  type="button"
                  className="tree-toggle"
                  tabIndex={-1}
                  aria-label={t(open ? "tree.close" : "tree.open", { title: nameOf(entry) })}
                  onClick={turn}
                >
                  {open ? <DownOutlined /> : <RightOutlined />}
                </button>
              )}
              <span className={entry.retired ? "faint" : ""}>{nameOf(entry)}</span>
              <code className="faint">{own}</code>
              {entry.default && <span className="tag tag-calm">{t("dictionary.default")}</span>}
              {entry.mergedInto ? (
                <span className="tag tag-calm">
                  {t("dictionary.mergedInto", { into: nameByKey(entries, entry.mergedInto, nameOf) })}
                </span>
              ) : (
                entry.retired && <span className="tag tag-calm">{t("dictionary.retired")}</span>
              )}
              {!entry.published && <span className="tag tag-warn">{t("dictionary.draft")}</span>}
              <span className="grow" />
              <UsesOf uses={used[own] ?? []} known={Boolean(uses?.askedTime)} />
              {!entry.retired && entry.published && verbs.length > 0 && (
                <MenuButton
                  className="icon-button"
                  label={t("dictionary.menu", { title: nameOf(entry) })}
                  items={verbs.map((verb) => ({
                    key: verb.name,
                    label: label(verb.label),
                    run: () => setDoing({ verb, key: own }),
                  }))}
                >
                  <DownOutlined aria-hidden="true" />
                </MenuButton>
              )}
            </div>
            {open && <ul role="group">{level(own, depth + 1)}</ul>}
          </li>
        );
      });

  return (
    <section className="card">
      <div className="card-head">
        <SearchField label={t("dictionary.find")} value={typed} onChange={setTyped} />
        <span className="faint" role="status">
          {wanted
            ? t("dictionary.found", { count: hits.length })
            : t("dictionary.count", { count: entries.length })}
        </span>
        <span className="grow" />
        {uses?.askedTime && (
          <span className="faint">
            {t("dictionary.counted", { time: formatInstant(uses.askedTime, language) })}
          </span>
        )}
        {count && may(session, count.permission) && (
          <button type="button" className="button" onClick={() => void ask()}>
            {label(count.label)}
          </button>
        )}
      </div>
      <Refused>{failure}</Refused>
      {entries.length === 0 || (wanted && hits.length === 0) ? (
        <Empty title={t("dictionary.none")} />
      ) : (
        <div className="tree-box">
          <ul role="tree" aria-label={t("dictionary.entries")} className="tree">
            {level("", 1)}
          </ul>
        </div>
      )}
      {doing && (
        <VerbDialog
          record={dictionary}
          verb={choosing(doing.verb, others(doing.key))}
          given={{ key: doing.key }}
          onClose={() => setDoing(undefined)}
        />
      )}
    </section>
  );
}

/** What an entry becomes is chosen among the others, not typed. */
const choosing = (verb: Verb, choices: Choice[]): Verb => ({
  ...verb,
  fields: verb.fields.map((field) => (field.name === "into" ? { ...field, kind: "choice", choices } : field)),
});

/** How many records have an entry; each collection leads to them. */
function UsesOf({ uses, known }: { uses: Use[]; known: boolean }) {
  const { t, plural } = useText();
  const catalogue = useCatalogue();
  if (!known) return null;
  if (uses.length === 0) return <span className="faint">{t("dictionary.unused")}</span>;
  return (
    <span className="row">
      {uses.map(({ collection = "", field = "", entry = "", count }) => {
        const resource = catalogue.find(collection);
        const text = `${resource ? plural(resource.label) : collection} ${count ?? 0}`;
        const many = resource?.fields.find(({ name }) => name === field)?.many;
        const filter = encodeFilter({
          groups: [[{ field, operator: many ? "contains" : "is", value: entry }]],
        });
        return resource?.fields.some(({ name }) => name === field) ? (
          <Link key={collection + field} to={`/${collection}?filter=${encodeURIComponent(filter)}`}>
            {text}
          </Link>
        ) : (
          <span key={collection + field} className="faint">
            {text}
          </span>
        );
      })}
    </span>
  );
}

/** An entry and all above it. */
function pathOf(key: string, above: Map<string | undefined, string>): string[] {
  const path = [key];
  for (let at = above.get(key); at && !path.includes(at); at = above.get(at)) path.push(at);
  return path;
}

const nameByKey = (entries: Entry[], key: string, nameOf: (entry: Entry) => string | undefined) => {
  const entry = entries.find((one) => one.key === key);
  return entry ? nameOf(entry) : key;
};

function press(event: KeyboardEvent, open: boolean | undefined, turn: () => void) {
  if (event.target !== event.currentTarget) return;
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if ((event.key === "ArrowRight" && open === false) || (event.key === "ArrowLeft" && open)) turn();
  else if (step) {
    const rows = [
      ...(event.currentTarget.closest("[role=tree]")?.querySelectorAll<HTMLElement>("[role=treeitem]") ?? []),
    ];
    rows[rows.indexOf(event.currentTarget as HTMLElement) + step]?.focus();
  } else return;
  event.preventDefault();
}
