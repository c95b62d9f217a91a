import type { Json } from "@/api/client";
import { same } from "./patch";

export interface Conflict {
  field: string;
  base: unknown;
  mine: unknown;
  theirs: unknown;
}

/**
 * Three-way merge by field: what only one side changed merges by itself, what both changed
 * differently is a conflict for the person to decide. Nothing typed is lost: conflicting fields keep mine.
 */
export function merge(
  base: Json,
  mine: Json,
  theirs: Json,
  fields: readonly string[],
): { merged: Json; conflicts: Conflict[] } {
  const merged: Json = { ...theirs };
  const conflicts: Conflict[] = [];
  for (const field of fields) {
    if (same(mine[field], base[field])) continue;
    merged[field] = mine[field];
    if (!same(theirs[field], base[field]) && !same(theirs[field], mine[field]))
      conflicts.push({ field, base: base[field], mine: mine[field], theirs: theirs[field] });
  }
  return { merged, conflicts };
}
