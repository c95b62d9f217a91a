import { ArrowDownOutlined, ArrowUpOutlined } from "@ant-design/icons";
import { useVirtualizer } from "@tanstack/react-virtual";
import { Checkbox } from "antd";
import { lazy, Suspense, useEffect, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { Link, useNavigate } from "react-router";
import type { Field, Resource } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { isNumber } from "./columns";
import { FieldValue, Title } from "./field-value";
import { isComposing } from "./keyboard";
import { titleOf } from "./queries";

const CellEditor = lazy(async () => ({ default: (await import("./cell-editor")).CellEditor }));

export interface Order {
  field: string;
  descending: boolean;
}

interface Props {
  resource: Resource;
  columns: Field[];
  records: RecordJson[];
  order: Order | undefined;
  onOrder: (order: Order | undefined) => void;
  hasMore: boolean;
  loadingMore: boolean;
  onMore: () => void;
  selected?: ReadonlySet<string>;
  onSelect?: (selected: ReadonlySet<string>) => void;
  onPeek?: (record: RecordJson) => void;
  /** Whether a value may be changed in its cell. */
  editable?: (record: RecordJson, field: Field) => boolean;
  foot?: ReactNode;
}

const ROW_PX = 46;
const AHEAD = 10;
const SELECT_PX = 44;

/** Rows as links to records: only those in sight are in the page, arrows and j/k move, the first column stays. */
export function DataGrid(props: Props) {
  const { resource, columns, records, order, onOrder, hasMore, loadingMore, onMore, selected, onSelect } =
    props;
  const { t, language, label } = useText();
  const navigate = useNavigate();
  const scroller = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState(0);
  const [editing, setEditing] = useState<{ name: string; field: string }>();

  // eslint-disable-next-line react-hooks/incompatible-library -- its functions are used in this component only
  const rows = useVirtualizer({
    count: records.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_PX,
    overscan: AHEAD,
  });
  const items = rows.getVirtualItems();
  const lastShown = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (hasMore && !loadingMore && lastShown >= records.length - AHEAD) onMore();
  }, [hasMore, loadingMore, lastShown, records.length, onMore]);

  const template = [
    onSelect ? `${SELECT_PX}px` : "",
    ...columns.map((column, index) => `minmax(${leastWidth(column, index)}px, ${index === 0 ? 2 : 1}fr)`),
  ].join(" ");
  const minWidth = columns.reduce(
    (sum, column, index) => sum + leastWidth(column, index),
    onSelect ? SELECT_PX : 0,
  );
  const toggle = (name: string) => {
    const next = new Set(selected);
    if (!next.delete(name)) next.add(name);
    onSelect?.(next);
  };

  const move = (to: number) => {
    const index = Math.max(0, Math.min(records.length - 1, to));
    setActive(index);
    rows.scrollToIndex(index);
    focusRow(index);
  };

  const edit = (record: RecordJson, from: number, step: 1 | -1 = 1) => {
    for (let at = from; at >= 0 && at < columns.length; at += step) {
      const field = columns[at];
      if (field && props.editable?.(record, field))
        return setEditing({ name: record.name, field: field.name });
    }
    setEditing(undefined);
    focusRow(records.indexOf(record));
  };
  const focusRow = (index: number) =>
    requestAnimationFrame(() =>
      scroller.current?.querySelector<HTMLElement>(`[data-index="${index}"]`)?.focus(),
    );

  const press = (event: KeyboardEvent, index: number) => {
    if (isComposing(event.nativeEvent) || event.ctrlKey || event.metaKey || event.altKey) return;
    const record = records[index];
    if (!record) return;
    if (event.key === "ArrowDown" || event.key === "j") move(index + 1);
    else if (event.key === "ArrowUp" || event.key === "k") move(index - 1);
    else if (event.key === "Home") move(0);
    else if (event.key === "End") move(records.length - 1);
    else if (event.key === "F2" && props.editable) edit(record, 0);
    else if (event.key === "x" && onSelect) toggle(record.name);
    else if (event.key === "e" && resource.has.update) void navigate(`/${record.name}/edit`);
    else if (event.key === " " && props.onPeek && event.target === event.currentTarget) props.onPeek(record);
    else if (event.key === "Enter" && event.target === event.currentTarget) void navigate(`/${record.name}`);
    else return;
    event.preventDefault();
  };

  const sort = (field: string) => {
    if (order?.field !== field) return onOrder({ field, descending: false });
    onOrder(order.descending ? undefined : { field, descending: true });
  };

  return (
    <div
      className="grid"
      ref={scroller}
      role="grid"
      aria-label={label(resource.label)}
      aria-rowcount={hasMore ? -1 : records.length + 1}
      aria-busy={loadingMore}
    >
      <div
        className="grid-row grid-head"
        role="row"
        aria-rowindex={1}
        style={{ gridTemplateColumns: template, minWidth }}
      >
        {onSelect && (
          <div role="columnheader" className="grid-cell grid-check">
            <Checkbox
              aria-label={t("list.selectAll")}
              checked={records.length > 0 && selected?.size === records.length}
              indeterminate={(selected?.size ?? 0) > 0 && (selected?.size ?? 0) < records.length}
              onChange={(event) =>
                onSelect(new Set(event.target.checked ? records.map((record) => record.name) : []))
              }
            />
          </div>
        )}
        {columns.map((column, index) => (
          <div
            key={column.name}
            role="columnheader"
            aria-sort={
              order?.field === column.name ? (order.descending ? "descending" : "ascending") : undefined
            }
            className={`grid-cell ${index === 0 ? "grid-first" : ""} ${isNumber(column) ? "number" : ""}`}
          >
            {isSortable(column) ? (
              <button type="button" className="grid-sort" onClick={() => sort(column.name)}>
                {label(column.label)}
                {order?.field === column.name &&
                  (order.descending ? <ArrowDownOutlined /> : <ArrowUpOutlined />)}
              </button>
            ) : (
              label(column.label)
            )}
          </div>
        ))}
      </div>
      <div role="rowgroup" className="grid-body" style={{ height: rows.getTotalSize(), minWidth }}>
        {items.map((item) => {
          const record = records[item.index];
          if (!record) return null;
          return (
            <div
              key={record.name}
              role="row"
              aria-rowindex={item.index + 2}
              aria-selected={selected?.has(record.name)}
              data-index={item.index}
              tabIndex={item.index === active ? 0 : -1}
              className="grid-row"
              style={{
                gridTemplateColumns: template,
                transform: `translateY(${item.start}px)`,
                height: ROW_PX,
              }}
              onKeyDown={(event) => press(event, item.index)}
              onDoubleClick={(event) => {
                const at = (event.target as HTMLElement).closest<HTMLElement>("[data-column]")?.dataset[
                  "column"
                ];
                const column = at === undefined ? undefined : columns[Number(at)];
                if (column && props.editable?.(record, column)) edit(record, Number(at));
              }}
              onFocus={() => setActive(item.index)}
            >
              {onSelect && (
                <div role="gridcell" className="grid-cell grid-check">
                  <Checkbox
                    tabIndex={-1}
                    aria-label={t("list.select", { title: titleOf(record, resource, language) })}
                    checked={selected?.has(record.name) ?? false}
                    onChange={() => toggle(record.name)}
                  />
                </div>
              )}
              {columns.map((column, index) => (
                <div
                  key={column.name}
                  role="gridcell"
                  className={cellClass(
                    column,
                    index,
                    editing?.name === record.name && editing.field === column.name,
                  )}
                  data-column={index}
                >
                  {editing?.name === record.name && editing.field === column.name ? (
                    <Suspense fallback={null}>
                      <CellEditor
                        key={`${record.name}.${column.name}`}
                        record={record}
                        field={column}
                        onLeave={(next) =>
                          next === "row"
                            ? edit(record, columns.length)
                            : edit(record, index + (next === "next" ? 1 : -1), next === "next" ? 1 : -1)
                        }
                      />
                    </Suspense>
                  ) : index === 0 ? (
                    <Link to={`/${record.name}`} tabIndex={-1} className="cut grid-title">
                      {column.name === resource.titleField ? (
                        <Title record={record} resource={resource} />
                      ) : (
                        <FieldValue field={column} value={record[column.name]} links={false} />
                      )}
                    </Link>
                  ) : (
                    <span className="cut">
                      <FieldValue field={column} value={record[column.name]} />
                    </span>
                  )}
                </div>
              ))}
            </div>
          );
        })}
      </div>
      {loadingMore && <p className="grid-more">{t("state.loading")}</p>}
      {props.foot}
    </div>
  );
}

const cellClass = (column: Field, index: number, editing: boolean) =>
  [
    "grid-cell",
    index === 0 ? "grid-first" : "",
    isNumber(column) ? "number" : "",
    editing ? "grid-editing" : "",
  ].join(" ");

const isSortable = (field: Field) => !field.many && !["object", "free", "reference"].includes(field.kind);

const NARROW: Partial<Record<Field["kind"], number>> = {
  choice: 100,
  boolean: 80,
  integer: 90,
  decimal: 100,
  date: 148,
  instant: 172,
  money: 144,
};
const TITLE_PX = 220;
const OTHER_PX = 120;
/** Numbers of documents and of telephones are read to their end. */
const NUMBER_PX = 156;

const leastWidth = (field: Field, index: number) =>
  index === 0
    ? TITLE_PX
    : (NARROW[field.kind] ?? (/^(number|phone)|Number/.test(field.name) ? NUMBER_PX : OTHER_PX));
