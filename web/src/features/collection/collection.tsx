import {
  AppstoreOutlined,
  CloseOutlined,
  ExportOutlined,
  FilterOutlined,
  ImportOutlined,
  PartitionOutlined,
  PlusOutlined,
  SettingOutlined,
  UnorderedListOutlined,
} from "@ant-design/icons";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { Link, useNavigate, useParams } from "react-router";
import { splitName, type RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { onChange } from "@/api/stream";
import { useText } from "@/i18n";
import { send } from "@/kit/commands";
import { DataGrid } from "@/kit/data-grid";
import { NO_FILTER } from "@/kit/filter";
import { inlineFields, isImportable, isShown } from "@/kit/form-model";
import { useShortcuts } from "@/kit/keyboard";
import { Page } from "@/kit/page";
import { aggregateQuery, pagesQuery, recordsOf, useResource, useSession } from "@/kit/queries";
import { SearchField } from "@/kit/search-field";
import { Segmented } from "@/kit/segmented";
import { Empty, ErrorBoundary, ErrorNote, Skeleton } from "@/kit/states";
import { useNarrow } from "@/kit/viewport";
import { screenOf } from "@/resources";
import { Cards } from "./cards";
import { FilterChips } from "./filter-chips";
import { Selection } from "./selection";
import { useListState, type View } from "./state";
import { Views } from "./views";

const Tree = lazy(async () => ({ default: (await import("@/kit/tree")).Tree }));
const Board = lazy(async () => ({ default: (await import("@/kit/board")).Board }));
const FilterDrawer = lazy(async () => ({ default: (await import("./filter-drawer")).FilterDrawer }));
const ColumnChooser = lazy(async () => ({ default: (await import("./column-chooser")).ColumnChooser }));
const ExportDialog = lazy(async () => ({ default: (await import("./export-dialog")).ExportDialog }));
const Peek = lazy(async () => ({ default: (await import("@/kit/peek")).Peek }));

export function CollectionPage() {
  const { collection = "" } = useParams();
  return <Collection key={collection} collection={collection} />;
}

const PAGE = 100;
const KIND_ICONS = { list: UnorderedListOutlined, board: AppstoreOutlined, tree: PartitionOutlined };

function Collection({ collection }: { collection: string }) {
  const { t, plural, noun } = useText();
  const navigate = useNavigate();
  const session = useSession();
  const resource = useResource(collection);
  const state = useListState(resource);
  const narrow = useNarrow();
  const screen = screenOf(collection);
  const kinds: View[] = [
    ...(screen.tree ? ["tree" as const] : []),
    "list",
    ...(screen.board ? ["board" as const] : []),
  ];
  const [open, setOpen] = useState<"filter" | "columns" | "export">();
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const [peeked, setPeeked] = useState<RecordJson>();

  const spec = { q: state.q, filter: state.filterText, orderBy: state.orderBy, pageSize: PAGE };
  const pages = useInfiniteQuery({ ...pagesQuery(collection, spec), placeholderData: (before) => before });
  const records = recordsOf(pages);
  const { fetchNextPage } = pages;
  const more = useCallback(() => void fetchNextPage(), [fetchNextPage]);
  const newer = useNewer(collection);

  const mayCreate = resource.has.create && !screen.noForm && may(session, resource.permissions.create);
  const mayUpdate = resource.has.update && may(session, resource.permissions.update);
  const editableNames = useMemo(() => new Set(inlineFields(resource).map(({ name }) => name)), [resource]);
  const create = () => send({ kind: "create", collection });
  useShortcuts({
    n: () => mayCreate && create(),
    f: () => setOpen("filter"),
    v: () => state.set({ view: kinds[(kinds.indexOf(state.view) + 1) % kinds.length] ?? "list" }),
  });

  const filtered = state.q !== "" || state.filterText !== "";
  const conditions = state.filter.groups.flat().length;

  return (
    <Page
      title={plural(resource.label)}
      fill
      actions={
        <>
          {kinds.length > 1 && (
            <Segmented
              label={t("list.views")}
              value={state.view}
              options={kinds.map((kind) => {
                const KindIcon = KIND_ICONS[kind];
                const title = (
                  <>
                    <KindIcon aria-hidden="true" /> {t(`list.${kind}`)}
                  </>
                );
                return { key: kind, title };
              })}
              onChange={(view) => state.set({ view })}
            />
          )}
          {mayCreate && isImportable(resource) && (
            <Link className="button wide" to={`/import/${collection}`}>
              <ImportOutlined aria-hidden="true" /> {t("action.import")}
            </Link>
          )}
          <button type="button" className="button wide" onClick={() => setOpen("export")}>
            <ExportOutlined aria-hidden="true" /> {t("action.export")}
          </button>
          {mayCreate && (
            <button type="button" className="button button-primary" onClick={create}>
              <PlusOutlined aria-hidden="true" /> {t("form.newTitle", { what: noun(resource.label) })}
            </button>
          )}
        </>
      }
      note={
        resource.has.aggregate ? (
          <Count collection={collection} q={state.q} filter={state.filterText} />
        ) : null
      }
    >
      <div className="list-bar">
        <SearchInList value={state.q} onChange={(q) => state.set({ q })} />
        <Views collection={collection} state={state} />
        {resource.fields.some((field) => field.name === "owner") && (
          <button
            type="button"
            className="chip"
            aria-pressed={state.mine}
            onClick={() => state.set({ mine: !state.mine })}
          >
            {t("list.mine")}
          </button>
        )}
        <button
          type="button"
          className="chip"
          aria-pressed={conditions > 0}
          onClick={() => setOpen("filter")}
        >
          <FilterOutlined aria-hidden="true" /> {t("filter.title")}
          {conditions > 0 && ` ${conditions}`}
        </button>
        {state.where && (
          <span className="chip chip-filter">
            <code>{state.where}</code>
            <button type="button" aria-label={t("action.remove")} onClick={() => state.set({ where: "" })}>
              <CloseOutlined />
            </button>
          </span>
        )}
        <FilterChips resource={resource} filter={state.filter} onChange={(filter) => state.set({ filter })} />
        <span className="grow" />
        {newer > 0 && (
          <button type="button" className="chip chip-news" onClick={() => void pages.refetch()}>
            {t("list.newer", { count: newer })}
          </button>
        )}
        {state.view === "list" && !narrow && (
          <button
            type="button"
            className="icon-button"
            aria-label={t("list.columns")}
            onClick={() => setOpen("columns")}
          >
            <SettingOutlined />
          </button>
        )}
      </div>
      {selected.size > 0 && (
        <Selection
          resource={resource}
          records={records.filter((record) => selected.has(record.name))}
          spec={spec}
          whole={selected.size === records.length && pages.hasNextPage}
          onDone={() => setSelected(new Set())}
        />
      )}
      <ErrorBoundary resetKey={state.view}>
        {state.view === "board" && screen.board ? (
          <Suspense fallback={<Skeleton lines={8} />}>
            <Board resource={resource} board={screen.board} q={state.q} filter={state.filterText} />
          </Suspense>
        ) : state.view === "tree" && screen.tree && !state.q ? (
          <Suspense fallback={<Skeleton lines={8} />}>
            <Tree resource={resource} tree={screen.tree} filter={state.filterText} />
          </Suspense>
        ) : pages.isError ? (
          <ErrorNote error={pages.error} onRetry={() => void pages.refetch()} />
        ) : pages.isPending ? (
          <div className="card card-body">
            <Skeleton lines={10} />
          </div>
        ) : records.length === 0 ? (
          <div className="card">
            <Empty
              title={
                filtered
                  ? t("list.noneFiltered")
                  : t("list.none", { what: plural(resource.label).toLowerCase() })
              }
              text={filtered ? t("list.noneFilteredText") : ""}
            >
              {filtered && (
                <button
                  type="button"
                  className="button"
                  onClick={() => state.set({ q: "", filter: NO_FILTER, mine: false, where: "" })}
                >
                  {t("filter.clear")}
                </button>
              )}
              {mayCreate && (
                <button type="button" className="button button-primary" onClick={create}>
                  {t("form.newTitle", { what: noun(resource.label) })}
                </button>
              )}
            </Empty>
          </div>
        ) : narrow ? (
          <Cards
            resource={resource}
            columns={state.columns}
            records={records}
            hasMore={pages.hasNextPage}
            loading={pages.isFetchingNextPage}
            onMore={more}
          />
        ) : (
          <DataGrid
            resource={resource}
            columns={state.columns}
            records={records}
            order={state.order}
            onOrder={(order) => state.set({ order })}
            hasMore={pages.hasNextPage}
            loadingMore={pages.isFetchingNextPage}
            onMore={more}
            onPeek={setPeeked}
            editable={(record, field) =>
              mayUpdate && editableNames.has(field.name) && isShown(resource, field, record)
            }
            {...(resource.has.batchUpdate || resource.has.delete ? { selected, onSelect: setSelected } : {})}
          />
        )}
      </ErrorBoundary>
      <Suspense fallback={null}>
        {open === "filter" && (
          <FilterDrawer
            resource={resource}
            filter={state.filter}
            onApply={(filter) => state.set({ filter })}
            onClose={() => setOpen(undefined)}
          />
        )}
        {open === "columns" && (
          <ColumnChooser
            resource={resource}
            columns={state.columns}
            onApply={(columns) => state.set({ columns })}
            onClose={() => setOpen(undefined)}
          />
        )}
        {open === "export" && (
          <ExportDialog
            resource={resource}
            columns={state.columns}
            spec={spec}
            onClose={() => setOpen(undefined)}
          />
        )}
        {peeked && (
          <Peek
            resource={resource}
            record={peeked}
            onOpen={() => void navigate(`/${peeked.name}`)}
            onClose={() => setPeeked(undefined)}
          />
        )}
      </Suspense>
    </Page>
  );
}

/** Rows never move under the cursor: new ones are announced and come when asked for. */
function useNewer(collection: string): number {
  const [names, setNames] = useState<ReadonlySet<string>>(new Set());
  useEffect(
    () =>
      onChange((change) => {
        if (change.action === "CREATED" && splitName(change.name).collection === collection)
          setNames((before) => new Set(before).add(change.name));
      }),
    [collection],
  );
  return names.size;
}

function Count({ collection, q, filter }: { collection: string; q: string; filter: string }) {
  const { t } = useText();
  const rows = useQuery(aggregateQuery(collection, { q, filter }));
  const count = Number(rows.data?.[0]?.count ?? 0);
  return (
    <p className="faint" role="status">
      {rows.data ? t("list.count", { count }) : " "}
    </p>
  );
}

const SETTLE_MS = 250;

function SearchInList({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const { t } = useText();
  const [typed, setTyped] = useState(value);
  const sent = useRef(value);
  useEffect(() => {
    if (value !== sent.current) {
      sent.current = value;
      setTyped(value);
    }
  }, [value]);
  useEffect(() => {
    if (typed.trim() === sent.current) return;
    const timer = setTimeout(() => {
      sent.current = typed.trim();
      onChange(typed.trim());
    }, SETTLE_MS);
    return () => clearTimeout(timer);
  }, [typed, onChange]);
  return <SearchField label={t("list.search")} value={typed} onChange={setTyped} />;
}
