import {
  infiniteQueryOptions,
  queryOptions,
  useQueries,
  useQuery,
  useSuspenseQuery,
} from "@tanstack/react-query";
import { aggregate, batchGet, get, list, request, splitName, type RecordJson } from "@/api/client";
import { readCatalogue, type Catalogue, type OpenApi, type Resource } from "@/api/catalogue";
import { ApiError } from "@/api/errors";
import { screenOf } from "@/resources";
import { isOutside, may, sessionQuery, type Session } from "@/api/session";

export const catalogueQuery = queryOptions({
  queryKey: ["catalogue"],
  queryFn: async () => readCatalogue((await (await request("/openapi.json")).json()) as OpenApi, screenOf),
  staleTime: Infinity,
  gcTime: Infinity,
});

/** What is declared; of it, what the session can read something of. */
export function useCatalogue(): Catalogue {
  const whole = useSuspenseQuery(catalogueQuery).data;
  const session = useSuspenseQuery(sessionQuery).data;
  return session && isOutside(session) ? outside(whole, session) : whole;
}

const seenOutside = new WeakMap<Session, Catalogue>();

/** Who of the company looks after a record is hidden from customers and partners; the account is always their own. */
function outside(whole: Catalogue, session: Session): Catalogue {
  const known = seenOutside.get(session);
  if (known) return known;
  const readable = (collection: string) => may(session, whole.find(collection)?.permissions.read);
  const seen = whole.without(
    ({ name, references }) => name !== "account" && (references.length === 0 || references.some(readable)),
  );
  seenOutside.set(session, seen);
  return seen;
}

/** The session inside the shell, where somebody is always signed in. */
export function useSession(): Session {
  const session = useSuspenseQuery(sessionQuery).data;
  if (!session) throw new ApiError(401, "UNAUTHENTICATED", "");
  return session;
}

/** The declared resource; a collection that nobody declared is a missing page. */
export function useResource(collection: string): Resource {
  const resource = useCatalogue().find(collection);
  if (!resource) throw new ApiError(404, "NOT_FOUND", "");
  return resource;
}

/** Whether there is such a collection, and this person may read in it. */
export function useReads(collection: string): boolean {
  const resource = useCatalogue().find(collection);
  const session = useSession();
  return resource !== undefined && may(session, resource.permissions.read);
}

export interface ListSpec {
  filter?: string | undefined;
  orderBy?: string | undefined;
  q?: string | undefined;
  pageSize?: number | undefined;
}

export const pagesQuery = (collection: string, spec: ListSpec) =>
  infiniteQueryOptions({
    queryKey: ["list", collection, "pages", spec],
    queryFn: ({ pageParam, signal }) => list(collection, { ...spec, pageToken: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.nextPageToken || undefined,
  });

/** All that a paged list has brought so far. */
export const recordsOf = ({ data }: { data: { pages: { records: RecordJson[] }[] } | undefined }) =>
  data?.pages.flatMap((page) => page.records) ?? [];

export const firstPageQuery = (collection: string, spec: ListSpec) =>
  queryOptions({
    queryKey: ["list", collection, "first", spec],
    queryFn: ({ signal }) => list(collection, spec, signal),
  });

export const recordQuery = (name: string) =>
  queryOptions({ queryKey: ["record", name], queryFn: ({ signal }) => get(name, signal) });

export interface AggregateSpec {
  filter?: string | undefined;
  q?: string | undefined;
  groupBy?: string[];
  sum?: string[];
}

export const aggregateQuery = (collection: string, spec: AggregateSpec) =>
  queryOptions({
    queryKey: ["aggregate", collection, spec],
    queryFn: ({ signal }) => aggregate(collection, spec, signal),
  });

/** The record behind a reference, or null where it does not exist for this person; with what its kind is. */
export function useNamed(name: string | undefined) {
  const found = useCatalogue().find(splitName(name ?? "").collection);
  const readable = useSuspenseQuery(sessionQuery).data;
  // What this person may read nothing of is not asked for.
  const resource = found && readable && may(readable, found.permissions.read) ? found : undefined;
  const { data: record } = useQuery({
    queryKey: ["record", name, "title"],
    queryFn: () => loadTitle(name ?? ""),
    enabled: Boolean(name) && resource !== undefined,
    staleTime: 300_000,
  });
  return { record, resource };
}

/** What several records are called, in their order; undefined until it is known. */
export function useReferences(names: string[], locale: string): (string | undefined)[] {
  const catalogue = useCatalogue();
  return useQueries({
    queries: names.map((name) => ({
      queryKey: ["record", name, "title"],
      queryFn: () => loadTitle(name),
      staleTime: 300_000,
    })),
  }).map(({ data }, index) =>
    data ? titleOf(data, catalogue.find(splitName(names[index] ?? "").collection), locale) : undefined,
  );
}

/** True for the name of a record, which nobody should have to read; Asia/Shanghai and text/calendar are none. */
export const isName = (value: unknown): value is string =>
  typeof value === "string" && /^(system\/\w+|[a-z]\w*\/[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12})$/.test(value);

/** What people call the record: its title, its number, or its kind where it has neither or another record is its title. */
export function titleOf(
  record: RecordJson | null | undefined,
  resource: Resource | undefined,
  locale = "zh",
): string {
  if (!record) return "";
  const value = record[resource?.titleField ?? "displayName"];
  const field = resource?.fields.find((candidate) => candidate.name === resource.titleField);
  const choice = field?.choices.find((candidate) => candidate.value === value);
  if (choice) return locale.startsWith("zh") ? choice.label.zh : choice.label.en;
  if (!locale.startsWith("zh") && typeof record["englishName"] === "string" && record["englishName"])
    return record["englishName"];
  if (typeof value === "string" && value && !isName(value)) return value;
  if (typeof record["number"] === "string" && record["number"]) return record["number"];
  return locale.startsWith("zh") ? (resource?.label.zh ?? "") : (resource?.label.en ?? "");
}

// Rows of a list ask for their references one by one; within a moment they become one call per collection.
const waiting = new Map<string, Map<string, ((record: RecordJson | null) => void)[]>>();
const GATHER_MS = 15;
const BATCH = 100;

function loadTitle(name: string): Promise<RecordJson | null> {
  const { collection } = splitName(name);
  return new Promise((resolve) => {
    let names = waiting.get(collection);
    if (!names) {
      names = new Map();
      waiting.set(collection, names);
      setTimeout(() => void flush(collection), GATHER_MS);
    }
    names.set(name, [...(names.get(name) ?? []), resolve]);
  });
}

async function flush(collection: string): Promise<void> {
  const names = waiting.get(collection) ?? new Map<string, ((record: RecordJson | null) => void)[]>();
  waiting.delete(collection);
  const all = [...names.keys()];
  for (let start = 0; start < all.length; start += BATCH) {
    const chunk = all.slice(start, start + BATCH);
    const records = await readAll(collection, chunk);
    const found = new Map(records.map((record) => [record.name, record]));
    for (const name of chunk) names.get(name)?.forEach((resolve) => resolve(found.get(name) ?? null));
  }
}

/** A batch is all or nothing; one record that this person may not see must not hide the others. */
async function readAll(collection: string, names: string[]): Promise<RecordJson[]> {
  try {
    return await batchGet(collection, names);
  } catch {
    const single = await Promise.allSettled(names.map((name) => get(name)));
    return single.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
  }
}
