import {
  DndContext,
  DragOverlay,
  KeyboardSensor,
  PointerSensor,
  TouchSensor,
  pointerWithin,
  rectIntersection,
  useDraggable,
  useDroppable,
  useSensor,
  useSensors,
  type Announcements,
  type CollisionDetection,
  type DragEndEvent,
  type DraggableAttributes,
  type UniqueIdentifier,
} from "@dnd-kit/core";
import { EllipsisOutlined, HolderOutlined } from "@ant-design/icons";
import { useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { useVirtualizer } from "@tanstack/react-virtual";
import { Select } from "antd";
import { memo, useCallback, useEffect, useRef, useState } from "react";
import { Link } from "react-router";
import type { Resource, Verb } from "@/api/catalogue";
import { ApiError } from "@/api/errors";
import type { RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { useAddress } from "./address";
import { fieldsNamed } from "./columns";
import { screenOf, type Board as BoardSpec } from "@/resources";
import { may } from "@/api/session";
import { FieldValue } from "./field-value";
import { allOf, quote } from "./filter";
import { itemsOf } from "./keyed";
import { columnKeyboard } from "./board-keyboard";
import { numberFormat } from "./formatters";
import { formatShort } from "./money";
import { MenuButton } from "./menu-button";
import { isBlank } from "./patch";
import { aggregateQuery, firstPageQuery, pagesQuery, recordsOf, titleOf, useSession } from "./queries";
import { ErrorNote, Skeleton } from "./states";
import { tell } from "./toasts";
import { messageOf, useVerb, VerbDialog } from "./verbs";

interface Column {
  key: string;
  title: string;
}

interface Props {
  resource: Resource;
  board: BoardSpec;
  q: string;
  filter: string;
}

const PAGE = 20;
const GAP_PX = 8;
// What the style sheet gives a card: its edges, a line of its title and a line of a field.
const EDGES_PX = 21;
const TITLE_PX = 26;
const LINE_PX = 22;
// A title is drawn on two lines where it is longer than one takes, in halves of a Chinese character.
const TITLE_HALVES = 26;
const AHEAD = 4;

/** Cards by stage. A drop calls the verb; a refusal puts the card back and says why. */
export function Board({ resource, board, q, filter }: Props) {
  const { t, language, label } = useText();
  const field = resource.fields.find((candidate) => candidate.name === board.field);
  const keyed = field?.keyed;
  const holders = useQuery({
    ...firstPageQuery(keyed?.collection ?? "", { pageSize: 50 }),
    enabled: keyed !== undefined,
  });
  const [params, go] = useAddress();

  if (keyed && holders.isError)
    return <ErrorNote error={holders.error} onRetry={() => void holders.refetch()} />;
  if (keyed && holders.isPending) return <Skeleton lines={8} />;
  const live = (holders.data?.records ?? []).filter(
    (record) => !record["state"] || record["state"] === "ACTIVE",
  );
  const holder =
    live.find((candidate) => candidate.name === params.get("flow")) ?? live.find(isDefault) ?? live[0];
  const columns: Column[] =
    keyed && holder
      ? itemsOf(holder, keyed, language).map((item) => ({ key: item.key, title: item.label }))
      : Object.keys(board.moves ?? {}).flatMap((key) => {
          const choice = field?.choices.find((candidate) => candidate.value === key);
          return choice ? [{ key, title: label(choice.label) }] : [];
        });
  if (columns.length === 0) return <ErrorNote error={new ApiError(0, "BOARD_EMPTY", t("board.noColumns"))} />;
  const base = allOf(
    board.filter,
    filter,
    holder && board.through && live.length > 1 ? `${board.through} = ${quote(holder.name)}` : "",
  );
  return (
    <>
      {holder && live.length > 1 && (
        <label className="row board-pick">
          <span className="faint">{t("board.process")}</span>
          <Select
            value={holder.name}
            options={live.map((record) => ({
              value: record.name,
              label: String(record["displayName"] ?? ""),
            }))}
            onChange={(name: string) => go({ flow: name })}
          />
        </label>
      )}
      <Columns {...{ resource, board, columns, q }} filter={base} />
    </>
  );
}

type ColumnsProps = Props & { columns: Column[] };

/** The columns of one process, among which cards are carried. */
function Columns({ resource, board, columns: given, q, filter }: ColumnsProps) {
  const { t, language } = useText();
  const client = useQueryClient();
  const session = useSession();
  const run = useVerb();
  const columns = useKept(given, (one, other) => one.key === other.key && one.title === other.title);
  const [dragged, setDragged] = useState<RecordJson>();
  const [asking, setAsking] = useState<{ record: RecordJson; to: string; verb: Verb }>();
  // Where cards were dropped, until the server has answered.
  const [moved, setMoved] = useState<Record<string, string>>({});
  const letGo = useLetGo();
  const sensors = useSensors(
    useSensor(PointerSensor, { activationConstraint: { distance: 5 } }),
    useSensor(TouchSensor, { activationConstraint: { delay: 200, tolerance: 8 } }),
    useSensor(KeyboardSensor, { coordinateGetter: columnKeyboard }),
  );

  const named = (name: string | undefined) =>
    resource.verbs.find((verb) => verb.name === name && may(session, verb.permission));
  const verbs = { forward: named(board.forward), back: named(board.back) };
  const at = (key: unknown) => columns.findIndex((column) => column.key === key);
  const movable = board.moves
    ? Object.values(board.moves).flat().some(named)
    : verbs.forward !== undefined || verbs.back !== undefined;

  const titleOfColumn = (key: unknown) => columns.find((column) => column.key === key)?.title ?? "";

  /** The verb that leads there: of a choice the ones that its column declares, from which the state takes its own. */
  const verbTo = (record: RecordJson, to: string): Verb | undefined => {
    if (!board.moves) return at(to) > at(record[board.field]) ? verbs.forward : verbs.back;
    const flow = screenOf(resource.collection).flow?.[String(record[board.field])] ?? [];
    const leading = board.moves[to] ?? [];
    return named(leading.find((name) => flow.includes(name)) ?? leading[0]);
  };

  const move = async (record: RecordJson, to: string) => {
    if (record[board.field] === to) return;
    const verb = verbTo(record, to);
    if (!verb)
      return tell(t("board.refused", { title: titleOf(record, resource, language) }), "bad", {
        detail: t("board.noWay", { column: titleOfColumn(to) }),
      });
    const asked = verb.fields.some((candidate) => candidate.name === board.field);
    if (verb.fields.some((candidate) => candidate.required && candidate.name !== board.field))
      return setAsking({ record, to, verb });
    setMoved((before) => ({ ...before, [record.name]: to }));
    try {
      await run(record, verb, asked ? { [board.field]: to } : {});
      await client.invalidateQueries({ queryKey: ["list", resource.collection] });
      await client.invalidateQueries({ queryKey: ["aggregate", resource.collection] });
    } catch (error) {
      tell(t("board.refused", { title: titleOf(record, resource, language) }), "bad", {
        detail: messageOf(error),
      });
    } finally {
      setMoved(({ [record.name]: _, ...rest }) => rest);
    }
  };

  // A function that stays: with another one every card would be drawn anew when one of them is lifted.
  const mover = useRef(move);
  useEffect(() => {
    mover.current = move;
  });
  const onMove = useCallback((record: RecordJson, to: string) => void mover.current(record, to), []);

  const recordOf = (event: { active: { data: { current?: unknown } } }) =>
    (event.active.data.current as { record?: RecordJson } | undefined)?.record;
  const announcements: Announcements = {
    onDragStart: (event) => t("board.picked", { title: titleOf(recordOf(event), resource, language) }),
    onDragOver: ({ over }) => (over ? t("board.over", { column: titleOfColumn(over.id) }) : undefined),
    onDragEnd: ({ over }) => {
      const to = letGo.at(over?.id);
      return to === undefined ? t("board.back") : t("board.dropped", { column: titleOfColumn(to) });
    },
    onDragCancel: () => t("board.back"),
  };

  const look = dragged ? "board board-carrying" : "board";
  return (
    <>
      <DndContext
        sensors={sensors}
        collisionDetection={underCard}
        accessibility={{ announcements, screenReaderInstructions: { draggable: t("board.instructions") } }}
        onDragStart={(event) => {
          letGo.begin(event.activatorEvent);
          setDragged(recordOf(event));
        }}
        onDragCancel={() => setDragged(undefined)}
        onDragEnd={({ over }: DragEndEvent) => {
          const to = letGo.at(over?.id);
          setDragged(undefined);
          if (dragged && to !== undefined) void move(dragged, to);
        }}
      >
        {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a region that scrolls must take the focus */}
        <div className={look} role="region" aria-label={t("list.board")} tabIndex={0}>
          {columns.map((column) => (
            <BoardColumn
              key={column.key}
              {...{ resource, board, column, columns, q, filter, moved, movable, onMove }}
              still={dragged !== undefined}
            />
          ))}
        </div>
        <DragOverlay dropAnimation={null}>
          {dragged && (
            <div className="board-card board-card-lifted">
              <strong>{titleOf(dragged, resource, language)}</strong>
            </div>
          )}
        </DragOverlay>
      </DndContext>
      {asking && (
        <VerbDialog
          record={asking.record}
          verb={asking.verb}
          initial={
            asking.verb.fields.some((candidate) => candidate.name === board.field)
              ? { [board.field]: asking.to }
              : {}
          }
          onClose={() => setAsking(undefined)}
        />
      )}
    </>
  );
}

interface ColumnProps {
  resource: Resource;
  board: BoardSpec;
  column: Column;
  columns: Column[];
  q: string;
  filter: string;
  moved: Record<string, string>;
  movable: boolean;
  /** A card is being carried: no other may move under it. */
  still: boolean;
  onMove: (record: RecordJson, to: string) => void;
}

/** Drawn anew whenever a card is carried over another column, so it is the frame alone. */
const BoardColumn = memo(function BoardColumn(props: ColumnProps) {
  const { column } = props;
  const { setNodeRef, isOver } = useDroppable({ id: column.key });
  return (
    <section
      ref={setNodeRef}
      className={`board-column ${isOver ? "board-column-over" : ""}`}
      data-column={column.key}
      aria-label={column.title}
    >
      <ColumnContent {...props} />
    </section>
  );
});

/** Cards come a page at a time as one scrolls, and only those in sight are in the page. */
const ColumnContent = memo(function ColumnContent(props: ColumnProps) {
  const { resource, board, column, columns, q, filter, moved, movable, still, onMove } = props;
  const { t, language } = useText();
  const client = useQueryClient();
  const scroller = useRef<HTMLDivElement>(null);
  const own = allOf(filter, `${board.field} = ${quote(column.key)}`);
  const pages = useInfiniteQuery(
    pagesQuery(resource.collection, {
      q,
      filter: own,
      orderBy: board.orderBy ?? "updateTime desc",
      pageSize: PAGE,
    }),
  );
  const figures = useQuery(
    aggregateQuery(resource.collection, { q, filter: own, ...(board.sum ? { sum: [board.sum] } : {}) }),
  );
  const row = figures.data?.[0];
  const sums = Object.entries(row?.sums ?? {}).map(([key, amount]) =>
    formatShort(amount, key.split(":")[1] ?? "CNY", language),
  );

  const [kept, keep] = useState(pages.data);
  if (!still && kept !== pages.data) keep(pages.data);
  const shown = recordsOf({ data: still ? kept : pages.data }).filter(
    (record) => (moved[record.name] ?? column.key) === column.key,
  );
  const arriving = Object.entries(moved)
    .filter(([name, to]) => to === column.key && !shown.some((record) => record.name === name))
    .flatMap(
      ([name]) =>
        client
          .getQueriesData<{ pages?: { records: RecordJson[] }[] }>({
            queryKey: ["list", resource.collection, "pages"],
          })
          .flatMap(([, data]) => data?.pages?.flatMap((page) => page.records) ?? [])
          .find((record) => record.name === name) ?? [],
    );
  const records = useKept([...arriving, ...shown]);
  const heightAt = (index: number) => {
    const record = records[index];
    if (!record) return EDGES_PX + TITLE_PX;
    const titleLines = isLong(titleOf(record, resource, language)) ? 2 : 1;
    return EDGES_PX + titleLines * TITLE_PX + cardFields(resource, board, record).length * LINE_PX;
  };
  // A new function is a new list for the virtualizer, which then goes through all of it.
  const keyAt = useCallback((index: number) => records[index]?.name ?? index, [records]);

  // eslint-disable-next-line react-hooks/incompatible-library -- its functions are used in this component only
  const cards = useVirtualizer({
    count: records.length,
    getScrollElement: () => scroller.current,
    estimateSize: heightAt,
    getItemKey: keyAt,
    gap: GAP_PX,
    overscan: AHEAD,
    // The frame after is soon enough for what comes in below the edge.
    useFlushSync: false,
  });
  const items = cards.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = pages;
  useEffect(() => {
    if (hasNextPage && !isFetchingNextPage && last >= records.length - PAGE) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage, last, records.length]);

  return (
    <>
      <header>
        <h2>{column.title}</h2>
        <span className="tag tag-calm">{numberFormat(language).format(Number(row?.count ?? 0))}</span>
        <span className="faint">{sums.join(" · ")}</span>
      </header>
      <div className="board-cards" ref={scroller}>
        {pages.isError && <ErrorNote error={pages.error} onRetry={() => void pages.refetch()} />}
        {pages.isPending && <Skeleton lines={4} />}
        <div className="board-run" style={{ height: cards.getTotalSize() }}>
          {items.map((item) => {
            const record = records[item.index];
            return (
              record && (
                <div
                  key={item.key}
                  className="board-slot"
                  style={{ height: item.size, transform: `translateY(${item.start}px)` }}
                >
                  <BoardCard {...{ resource, board, record, column, columns, movable, onMove }} />
                </div>
              )
            );
          })}
        </div>
        {pages.data && records.length === 0 && <p className="faint board-none">{t("board.none")}</p>}
        {isFetchingNextPage && <p className="faint board-none">{t("state.loading")}</p>}
      </div>
    </>
  );
});

interface CardProps extends Pick<
  ColumnProps,
  "resource" | "board" | "column" | "columns" | "movable" | "onMove"
> {
  record: RecordJson;
}

/** Its height is known before it is drawn, so nothing is measured while one scrolls. */
const BoardCard = memo(function BoardCard(props: CardProps) {
  const { resource, record, movable } = props;
  const { language } = useText();
  // The library draws each of these anew for every column that a card is carried over, so it is the frame alone.
  const { attributes, listeners, setNodeRef, setActivatorNodeRef, isDragging } = useDraggable({
    id: record.name,
    data: { record },
    disabled: !movable,
  });
  const title = titleOf(record, resource, language);
  return (
    <article
      ref={setNodeRef}
      className={`board-card ${isLong(title) ? "board-card-long" : ""} ${isDragging ? "board-card-ghost" : ""}`}
      {...listeners}
    >
      <CardContent {...props} {...{ title, attributes }} handle={setActivatorNodeRef} />
    </article>
  );
});

interface ContentProps extends CardProps {
  title: string;
  /** What the library says of the handle. */
  attributes: DraggableAttributes;
  handle: (element: HTMLElement | null) => void;
}

const CardContent = memo(function CardContent(props: ContentProps) {
  const { resource, board, record, column, columns, movable, onMove, title, attributes, handle } = props;
  const { t, label } = useText();
  return (
    <>
      <div className="board-card-head">
        {movable && (
          <button
            type="button"
            ref={handle}
            className="board-handle"
            {...attributes}
            aria-label={t("board.move", { title })}
          >
            <HolderOutlined />
          </button>
        )}
        <Link to={`/${record.name}`} onPointerDown={(event) => event.stopPropagation()}>
          {title}
        </Link>
        {movable && (
          <MenuButton
            className="icon-button"
            label={t("board.moveTo", { title })}
            items={columns
              .filter((other) => other.key !== column.key)
              .map((other) => ({ key: other.key, label: other.title, run: () => onMove(record, other.key) }))}
          >
            <EllipsisOutlined />
          </MenuButton>
        )}
      </div>
      {cardFields(resource, board, record).map((field) => (
        <p key={field.name} className={field.kind === "money" ? "board-money" : "faint cut"}>
          <span className="visually-hidden">{label(field.label)}</span>
          <FieldValue field={field} value={record[field.name]} links={false} />
        </p>
      ))}
    </>
  );
});

const cardFields = (resource: Resource, board: BoardSpec, record: RecordJson) =>
  fieldsNamed(resource.fields, board.card).filter((field) => !isBlank(record[field.name]));

const isLong = (title: string) => title.replace(/[^ -\u00ff]/g, "xx").length > TITLE_HALVES;

/** The list of before where it holds the same, so that what hangs on it stays too. */
function useKept<T>(list: T[], alike: (one: T, other: T) => boolean = Object.is): T[] {
  const [kept, keep] = useState(list);
  const same =
    kept.length === list.length &&
    kept.every((one, at) => {
      const other = list[at];
      return other !== undefined && alike(one, other);
    });
  if (!same) keep(list);
  return same ? kept : list;
}

/** The column below the pointer; a card that keys carry has none, so the one that it covers most. */
const underCard: CollisionDetection = (drag) =>
  drag.pointerCoordinates ? pointerWithin(drag) : rectIntersection(drag);

/**
 * In which column a card was let go. The library knows the column of the last picture that was drawn:
 * on a busy machine the pointer is further by then, and the card would go back.
 */
function useLetGo() {
  const point = useRef<{ clientX: number; clientY: number }>(undefined);
  const byKeys = useRef(false);
  useEffect(() => {
    const note = (event: PointerEvent | TouchEvent) => {
      point.current = "changedTouches" in event ? event.changedTouches[0] : event;
    };
    const kinds = ["pointermove", "pointerup", "touchmove", "touchend"] as const;
    for (const kind of kinds) addEventListener(kind, note, { capture: true, passive: true });
    return () => kinds.forEach((kind) => removeEventListener(kind, note, { capture: true }));
  }, []);
  return {
    begin: (event: Event) => {
      byKeys.current = event instanceof KeyboardEvent;
    },
    at: (drawn: UniqueIdentifier | undefined): string | undefined => {
      if (byKeys.current || !point.current) return drawn === undefined ? undefined : String(drawn);
      return document
        .elementsFromPoint(point.current.clientX, point.current.clientY)
        .map((element) => element.closest<HTMLElement>(".board-column"))
        .find(Boolean)?.dataset["column"];
    },
  };
}

const isDefault = (record: RecordJson) => record["isDefault"] === true;
