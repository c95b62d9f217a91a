import type { QueryClient } from "@tanstack/react-query";
import { splitName, type RecordJson } from "@/api/client";

/**
 * What a write has answered stands at once in every list and page that shows it, with its etag: whoever goes on
 * from there is not told that somebody else, who was himself, has changed it.
 */
export function takeWritten(client: QueryClient, collection: string, answers: RecordJson[]): void {
  // A verb may answer with something else than a record, and what was refused brings a name alone.
  const records = answers.filter(({ name }) => name);
  const byName = new Map(records.filter(({ etag }) => etag).map((record) => [record.name, record]));
  for (const { name } of records) {
    client.setQueryData<RecordJson>(["record", name], (kept) => newest(kept, byName.get(name)));
    void client.invalidateQueries({ queryKey: ["record", name] });
  }
  for (const each of new Set([collection, ...records.map(({ name }) => splitName(name).collection)])) {
    client.setQueriesData({ queryKey: ["list", each] }, (kept) => withNewest(kept, byName));
    void client.invalidateQueries({ queryKey: ["list", each] });
    void client.invalidateQueries({ queryKey: ["aggregate", each] });
  }
}

/** The later of two versions of a record, where there are two; an answer may leave out what the record has. */
export function newest(one: RecordJson | undefined, other: RecordJson | undefined): RecordJson | undefined {
  if (!one || !other) return one ?? other;
  return Number(other.etag ?? 0) >= Number(one.etag ?? 0) ? { ...one, ...other } : one;
}

/** Lists are kept as pages, as a page or as records alone. */
function withNewest(kept: unknown, byName: ReadonlyMap<string, RecordJson>): unknown {
  if (Array.isArray(kept)) return kept.map((one) => newestOf(one, byName));
  if (!isObject(kept)) return kept;
  const { pages, records } = kept;
  if (Array.isArray(pages)) return { ...kept, pages: pages.map((page) => withNewest(page, byName)) };
  return Array.isArray(records) ? { ...kept, records: withNewest(records, byName) } : kept;
}

const newestOf = (one: unknown, byName: ReadonlyMap<string, RecordJson>) =>
  isObject(one) && typeof one["name"] === "string" ? newest(one as RecordJson, byName.get(one["name"])) : one;

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
