import { useCallback, useMemo } from "react";
import { useSearchParams } from "react-router";
import type { Field, Resource } from "@/api/catalogue";
import { defaultColumns, possibleColumns } from "@/kit/columns";
import type { Order } from "@/kit/data-grid";
import { allOf, decodeFilter, encodeFilter, filterText, type Filter } from "@/kit/filter";
import { useStored } from "@/kit/stored";
import { screenOf, type Screen } from "@/resources";

export type View = "list" | "board" | "tree";

export interface ListState {
  q: string;
  filter: Filter;
  filterText: string;
  order: Order | undefined;
  orderBy: string;
  columns: Field[];
  view: View;
  mine: boolean;
  /** A filter that somebody wrote by hand, beyond what the builder shows. */
  where: string;
  set: (
    change: Partial<{
      q: string;
      filter: Filter;
      order: Order | undefined;
      columns: string[];
      view: View;
      mine: boolean;
      where: string;
    }>,
  ) => void;
}

/** A tree is what one sees first of what has one; a list or a board only where it is asked for. */
function viewOf(asked: string | null, screen: Screen): View {
  if (asked === "board" && screen.board) return "board";
  if (screen.tree && asked !== "list") return "tree";
  return "list";
}

const UNQUOTED = new Set(["integer", "decimal", "money", "boolean", "date", "day", "instant"]);

/** The whole state of a list stands in the address, so a link shows another person the same. */
export function useListState(resource: Resource): ListState {
  const [params, setParams] = useSearchParams();
  const [kept, keep] = useStored<string[] | null>(`columns.${resource.collection}`, null);
  const fields = useMemo(
    () => new Map(possibleColumns(resource).map((field) => [field.name, field])),
    [resource],
  );

  const text = params.get("filter");
  const filter = useMemo(() => decodeFilter(text), [text]);
  const orderText = params.get("order") ?? screenOf(resource.collection).orderBy ?? "";
  const names = params.get("columns")?.split(",") ?? kept;
  const chosen = (names ?? []).flatMap((name) => fields.get(name) ?? []);
  const columns = chosen.length > 0 ? chosen : defaultColumns(resource);
  const mine = params.get("mine") === "1";
  const where = params.get("where") ?? "";

  const set: ListState["set"] = useCallback(
    (change) =>
      setParams(
        (before) => {
          const next = new URLSearchParams(before);
          const put = (key: string, value: string) => (value ? next.set(key, value) : next.delete(key));
          if (change.q !== undefined) put("q", change.q);
          if (change.filter) put("filter", encodeFilter(change.filter));
          if ("order" in change)
            put(
              "order",
              change.order ? `${change.order.field}${change.order.descending ? " desc" : ""}` : "",
            );
          if (change.view) put("view", change.view);
          if (change.mine !== undefined) put("mine", change.mine ? "1" : "");
          if (change.where !== undefined) put("where", change.where);
          if (change.columns) {
            put("columns", change.columns.join(","));
            keep(change.columns);
          }
          return next;
        },
        { replace: change.q !== undefined },
      ),
    [setParams, keep],
  );

  const built = filterText(filter, (name) => !UNQUOTED.has(fields.get(name)?.kind ?? "text"));
  const [field = "", direction] = orderText.split(" ");
  return {
    q: params.get("q") ?? "",
    filter,
    filterText: allOf(mine ? "owner = me" : "", built, where),
    order: field ? { field, descending: direction === "desc" } : undefined,
    orderBy: orderText,
    columns,
    view: viewOf(params.get("view"), screenOf(resource.collection)),
    mine,
    where,
    set,
  };
}
