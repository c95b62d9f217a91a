import { SearchOutlined } from "@ant-design/icons";
import { useQueries, useQuery } from "@tanstack/react-query";
import { Modal } from "antd";
import { Fragment, useState, type KeyboardEvent } from "react";
import { useNavigate } from "react-router";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { isComposing } from "@/kit/keyboard";
import { Icon } from "@/kit/icons";
import { menuOf } from "@/kit/menu";
import { firstPageQuery, titleOf, useCatalogue, useSession } from "@/kit/queries";
import { useSettled } from "@/kit/settled";
import { screenOf } from "@/resources";

// For those who may not use the global search.
const SEARCHED = [
  "accounts",
  "contacts",
  "opportunities",
  "leads",
  "tickets",
  "contracts",
  "orders",
  "invoices",
  "quotes",
];
const MIN_CHARACTERS = 2;

interface Hit {
  key: string;
  path: string;
  title: string;
  detail: string;
  icon: string | undefined;
  group: string;
  collection: string;
}

/**
 * Hits of one kind side by side; the kind of the best hit first. Of those that are called the same the customer comes
 * before what belongs to it.
 */
function grouped(hits: Hit[]): Hit[] {
  const first = (hit: Hit) => hits.findIndex(({ title }) => title === hit.title);
  const rank = (hit: Hit) => SEARCHED.indexOf(hit.collection) + 1 || SEARCHED.length + 1;
  const ordered = hits.toSorted((a, b) => first(a) - first(b) || rank(a) - rank(b));
  const groups = [...new Set(ordered.map((hit) => hit.group))];
  return groups.flatMap((group) => ordered.filter((hit) => hit.group === group));
}

/** Ctrl+K: finds records from two characters on, and pages by their name. */
export function Palette({ onClose }: { onClose: () => void }) {
  const { t, language, label, plural } = useText();
  const navigate = useNavigate();
  const catalogue = useCatalogue();
  const session = useSession();
  const [typed, setTyped] = useState("");
  const q = useSettled(typed.trim());
  const [active, setActive] = useState(0);

  const asks = q.length >= MIN_CHARACTERS;
  const documents = catalogue.find("searchDocuments");
  const everywhere = documents !== undefined && may(session, documents.permissions.read);
  const found = useQuery({
    ...firstPageQuery("searchDocuments", { q, pageSize: 30 }),
    enabled: everywhere && asks,
  });
  const resources = (everywhere ? [] : SEARCHED).flatMap((collection) => {
    const resource = catalogue.find(collection);
    return resource && may(session, resource.permissions.read) ? [resource] : [];
  });
  const answers = useQueries({
    queries: resources.map((resource) => ({
      ...firstPageQuery(resource.collection, { q, pageSize: 5 }),
      enabled: asks,
    })),
  });

  const pages: Hit[] = menuOf(catalogue, session)
    .flatMap((group) => group.entries)
    .map((entry) => ({
      key: entry.path,
      path: entry.path,
      title: entry.label ? plural(entry.label) : t(`page.${entry.key}`),
      detail: "",
      icon: entry.icon,
      group: t("search.page"),
      collection: "",
    }))
    .filter((hit) => typed.trim() === "" || hit.title.toLowerCase().includes(typed.trim().toLowerCase()));
  const documentHits: Hit[] = (asks ? (found.data?.records ?? []) : []).map((document) => {
    const resource = catalogue.find(String(document["collection"]));
    const choice = resource?.fields
      .find((field) => field.name === "state")
      ?.choices.find((candidate) => candidate.value === document["state"]);
    return {
      key: document.name,
      path: `/${String(document["target"])}`,
      title: String(document["title"] ?? ""),
      detail: choice ? label(choice.label) : "",
      icon: screenOf(String(document["collection"])).icon,
      group: resource ? plural(resource.label) : String(document["collection"]),
      collection: String(document["collection"]),
    };
  });
  const records: Hit[] = answers.flatMap((answer, index) => {
    const resource = resources[index];
    if (!resource || !asks) return [];
    return (answer.data?.records ?? []).map((record) => ({
      key: record.name,
      path: `/${record.name}`,
      title: titleOf(record, resource, language),
      detail: String(record["number"] ?? ""),
      icon: screenOf(resource.collection).icon,
      group: plural(resource.label),
      collection: resource.collection,
    }));
  });
  const hits = grouped([...documentHits, ...records, ...pages]).slice(0, 40);
  const searching = asks && (found.isFetching || answers.some((answer) => answer.isFetching));

  const open = (hit: Hit | undefined) => {
    if (!hit) return;
    onClose();
    void navigate(hit.path);
  };
  const press = (event: KeyboardEvent) => {
    if (isComposing(event.nativeEvent)) return;
    if (event.key === "ArrowDown") setActive((index) => Math.min(index + 1, hits.length - 1));
    else if (event.key === "ArrowUp") setActive((index) => Math.max(index - 1, 0));
    else if (event.key === "Enter") open(hits[active]);
    else return;
    event.preventDefault();
  };

  return (
    <Modal
      open
      onCancel={onClose}
      footer={null}
      closable={false}
      width={640}
      className="palette"
      aria-label={t("action.search")}
      style={{ top: 80 }}
    >
      <div className="palette-input">
        <SearchOutlined aria-hidden="true" />
        <input
          // The dialog was opened to type.
          // eslint-disable-next-line jsx-a11y/no-autofocus
          autoFocus
          type="text"
          role="combobox"
          aria-label={t("search.hint")}
          aria-expanded="true"
          aria-controls="palette-hits"
          aria-activedescendant={hits[active] ? `hit-${active}` : undefined}
          placeholder={t("search.hint")}
          value={typed}
          onChange={(event) => {
            setTyped(event.target.value);
            setActive(0);
          }}
          onKeyDown={press}
        />
      </div>
      <p className="visually-hidden" role="status">
        {searching ? t("state.loading") : t("search.found", { count: hits.length })}
      </p>
      <ul id="palette-hits" role="listbox" aria-label={t("search.results")} className="palette-hits">
        {hits.map((hit, index) => (
          <Fragment key={hit.key}>
            {hit.group !== hits[index - 1]?.group && (
              <li role="presentation" className="palette-group faint">
                {hit.group}
              </li>
            )}
            {/* Keys reach the hits through the input; the pointer reaches them directly. */}
            {/* eslint-disable-next-line jsx-a11y/click-events-have-key-events */}
            <li
              id={`hit-${index}`}
              role="option"
              aria-selected={index === active}
              tabIndex={-1}
              onMouseEnter={() => setActive(index)}
              onClick={() => open(hit)}
            >
              <Icon name={hit.icon} />
              <span className="cut">{hit.title}</span>
              <span className="faint">{hit.detail}</span>
            </li>
          </Fragment>
        ))}
      </ul>
      {hits.length === 0 && !searching && <p className="palette-none">{t("search.none")}</p>}
    </Modal>
  );
}
