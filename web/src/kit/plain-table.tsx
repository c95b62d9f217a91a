import type { InfiniteData, UseInfiniteQueryResult } from "@tanstack/react-query";
import type { HTMLAttributes, ReactNode } from "react";
import type { Field } from "@/api/catalogue";
import type { Json, Page, RecordJson } from "@/api/client";
import type { useText } from "@/i18n";
import { isNumber } from "./columns";
import { FieldValue } from "./field-value";
import { MorePages } from "./more-pages";
import { recordsOf } from "./queries";
import { ScrollBox } from "./scroll-box";
import { Loaded } from "./states";

export interface Column<Row> {
  key: string;
  title: string;
  /** The title is heard and not seen, and does not stand beside the value on a phone. */
  hidden?: boolean;
  /** What stands below the title. */
  note?: ReactNode;
  number?: boolean;
  /** Its cells name their rows. */
  row?: boolean;
  cell: (row: Row, index: number) => ReactNode;
  /** What stands below all rows. */
  total?: ReactNode;
}

interface Props<Row> {
  caption: string;
  columns: Column<Row>[];
  rows: Row[];
  keyOf: (row: Row, index: number) => string | number;
  rowProps?: (row: Row) => HTMLAttributes<HTMLTableRowElement>;
  /** On a phone a row becomes a card, with the titles beside the values. */
  stacked?: boolean;
  className?: string;
}

/** A table to read: rows of whatever it is given, wide ones in a box that scrolls. */
export function PlainTable<Row>({
  caption,
  columns,
  rows,
  keyOf,
  rowProps,
  stacked = false,
  className = "",
}: Props<Row>) {
  return (
    <ScrollBox label={caption} className={`${stacked ? "stacked" : ""} ${className}`}>
      <table className="plain">
        <caption className="visually-hidden">{caption}</caption>
        <thead>
          <tr>
            {columns.map(({ key, title, hidden, note, number }) => (
              <th key={key} scope="col" className={number ? "number" : ""}>
                {hidden ? <span className="visually-hidden">{title}</span> : title}
                {note}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, index) => (
            <tr key={keyOf(row, index)} {...rowProps?.(row)}>
              {columns.map((column) => (
                <Cell key={column.key} column={column}>
                  {column.cell(row, index)}
                </Cell>
              ))}
            </tr>
          ))}
        </tbody>
        {columns.some(({ total }) => total !== undefined) && (
          <tfoot>
            <tr>
              {columns.map((column) => (
                <Cell key={column.key} column={column}>
                  {column.total}
                </Cell>
              ))}
            </tr>
          </tfoot>
        )}
      </table>
    </ScrollBox>
  );
}

function Cell<Row>({ column, children }: { column: Column<Row>; children: ReactNode }) {
  if (column.row) return <th scope="row">{children}</th>;
  return (
    <td className={column.number ? "number" : ""} data-label={column.hidden ? undefined : column.title}>
      {children}
    </td>
  );
}

interface PagedProps extends Omit<Props<RecordJson>, "rows" | "keyOf"> {
  pages: UseInfiniteQueryResult<InfiniteData<Page>>;
  /** What stands there where nothing was found. */
  none: ReactNode;
  lines?: number;
}

/** The records of a list so far, and the way to the next page. */
export function PagedTable({ pages, none, lines = 5, ...table }: PagedProps) {
  return (
    <Loaded query={pages} lines={lines}>
      {() => {
        const rows = recordsOf(pages);
        if (rows.length === 0) return none;
        return (
          <>
            <PlainTable {...table} rows={rows} keyOf={({ name }) => name} />
            <MorePages pages={pages} />
          </>
        );
      }}
    </Loaded>
  );
}

/** The column of a declared field. */
export const columnOf = (field: Field, label: ReturnType<typeof useText>["label"]): Column<Json> => ({
  key: field.name,
  title: label(field.label),
  number: isNumber(field),
  cell: (row) => <FieldValue field={field} value={row[field.name]} />,
});
