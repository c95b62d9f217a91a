import createClient, { type Middleware } from "openapi-fetch";
import { ApiError, readError } from "./errors";

export type Json = Record<string, unknown>;

/** A record as the gateway gives it; what else it carries is known from the declared schema. */
export interface RecordJson extends Json {
  name: string;
  etag?: string;
}

export interface Page {
  records: RecordJson[];
  nextPageToken: string;
}

export interface AggregateRow {
  group: string[];
  count: string;
  sums: Record<string, string>;
  averages: Record<string, string>;
}

interface ListQuery {
  pageSize?: number;
  pageToken?: string;
  filter?: string;
  orderBy?: string;
  q?: string;
}

interface AggregateQuery {
  filter?: string;
  q?: string;
  groupBy?: string[];
  sum?: string[];
  average?: string[];
}

type Reply<T> = { 200: { content: { "application/json": T } } };
type Created<T> = { 201: { content: { "application/json": T } } };
interface Write {
  header?: { "Idempotency-Key"?: string; "If-Match"?: string };
}
type Body<T> = { content: { "application/json": T } };

/** The REST conventions that every resource shares; written for any collection, so once. */
interface Conventions {
  "/v1/{collection}": {
    get: { parameters: { path: { collection: string }; query?: ListQuery }; responses: Reply<Json> };
    post: {
      parameters: { path: { collection: string } } & Write;
      requestBody: Body<Json>;
      responses: Created<RecordJson>;
    };
  };
  "/v1/{collection}/{id}": {
    get: { parameters: { path: { collection: string; id: string } }; responses: Reply<RecordJson> };
    patch: {
      parameters: { path: { collection: string; id: string } } & Write;
      requestBody: Body<Json>;
      responses: Reply<RecordJson>;
    };
    delete: { parameters: { path: { collection: string; id: string } } & Write; responses: Reply<Json> };
  };
  "/v1/{collection}/{id}:{verb}": {
    get: {
      parameters: { path: { collection: string; id: string; verb: string }; query?: { employee?: string } };
      responses: Reply<Json>;
    };
    post: {
      parameters: { path: { collection: string; id: string; verb: string } } & Write;
      requestBody: Body<Json>;
      responses: Reply<RecordJson>;
    };
  };
  "/v1/{collection}:{verb}": {
    get: {
      parameters: {
        path: { collection: string; verb: string };
        query?: AggregateQuery & { names?: string[] };
      };
      responses: Reply<Json>;
    };
    post: {
      parameters: { path: { collection: string; verb: string } } & Write;
      requestBody: Body<Json>;
      responses: Reply<Json>;
    };
  };
}

/** What every request carries, set by the session and the language switch. */
export const context = {
  csrf: "",
  locale: "zh-CN",
  onSignedOut: (_: ApiError): void => undefined,
  onWritten: (..._: [collection: string, records: RecordJson[]]): void => undefined,
  message: (reason: string) => reason,
};

const conventions: Middleware = {
  onRequest({ request }) {
    request.headers.set("Accept-Language", context.locale);
    if (request.method !== "GET") {
      request.headers.set("X-CSRF", context.csrf);
      if (!request.headers.has("Idempotency-Key"))
        request.headers.set("Idempotency-Key", crypto.randomUUID());
    }
    return request;
  },
  async onResponse({ response }) {
    if (response.ok) return response;
    const error = readError(response.status, await response.json().catch(() => null), context.message);
    if (error.status === 401) context.onSignedOut(error);
    throw error;
  },
  onError({ request, error }) {
    if (error instanceof ApiError || (error instanceof DOMException && error.name === "AbortError")) return;
    // Of all who claim one gets it: that is the server's to say, and nothing to try again later by itself.
    const reason = request.url.endsWith(":claim") ? "ONLINE_REQUIRED" : "UNREACHABLE";
    return new ApiError(0, reason, context.message(reason));
  },
};

const client = createClient<Conventions>({ baseUrl: "", fetch: (request) => globalThis.fetch(request) });
client.use(conventions);

/** `accounts/0190…` → its collection and id. */
export function splitName(name: string): { collection: string; id: string } {
  const slash = name.indexOf("/");
  return { collection: name.slice(0, slash), id: name.slice(slash + 1) };
}

/** Custom fields stand beside the others, as `custom.region`, the name that filters and orders have for them. */
function flat(record: RecordJson): RecordJson {
  const custom = record["custom"] as Json | undefined;
  if (!custom) return record;
  const own = Object.entries(custom).map(([key, value]) => [`custom.${key}`, value]);
  return { ...record, ...(Object.fromEntries(own) as Json) };
}

/** A body as the server takes it: custom fields within `custom`. */
function nested(body: Json): Json {
  const own = Object.entries(body).filter(([name]) => name.startsWith("custom."));
  if (own.length === 0) return body;
  const rest = Object.entries(body).filter(([name]) => !name.startsWith("custom."));
  const custom = Object.fromEntries(own.map(([name, value]) => [name.slice("custom.".length), value]));
  return { ...Object.fromEntries(rest), custom };
}

export async function list(collection: string, query: ListQuery, signal?: AbortSignal): Promise<Page> {
  const data = await got(
    client.GET("/v1/{collection}", { params: { path: { collection }, query: present(query) }, signal }),
  );
  return {
    records: recordsOf(data, collection),
    nextPageToken: (data["nextPageToken"] as string | undefined) ?? "",
  };
}

export async function get(name: string, signal?: AbortSignal): Promise<RecordJson> {
  return flat(await got(client.GET("/v1/{collection}/{id}", { params: { path: splitName(name) }, signal })));
}

export async function batchGet(collection: string, names: string[]): Promise<RecordJson[]> {
  const data = await got(
    client.GET("/v1/{collection}:{verb}", {
      params: { path: { collection, verb: "batchGet" }, query: { names } },
    }),
  );
  return recordsOf(data, collection);
}

export async function create(collection: string, body: Json, key?: string): Promise<RecordJson> {
  return written(
    collection,
    undefined,
    client.POST("/v1/{collection}", {
      params: { path: { collection }, header: headers(key) },
      body: nested(body),
    }),
  );
}

/** The keys of the body are the mask: what is not in it stays as it is, `null` clears. */
export async function update(name: string, body: Json, etag?: string, key?: string): Promise<RecordJson> {
  const path = splitName(name);
  return written(
    path.collection,
    name,
    client.PATCH("/v1/{collection}/{id}", {
      params: { path, header: headers(key, etag) },
      body: nested(body),
    }),
  );
}

export async function remove(name: string, etag?: string): Promise<void> {
  await got(
    client.DELETE("/v1/{collection}/{id}", {
      params: { path: splitName(name), header: headers(undefined, etag) },
    }),
  );
}

export async function act(
  name: string,
  verb: string,
  body: Json,
  etag?: string,
  key?: string,
): Promise<RecordJson> {
  const path = splitName(name);
  return written(
    path.collection,
    name,
    client.POST("/v1/{collection}/{id}:{verb}", {
      params: { path: { ...path, verb }, header: headers(key, etag) },
      body,
    }),
  );
}

/** One transaction: all change or none. */
export async function batchUpdate(
  collection: string,
  changes: { record: RecordJson; body: Json }[],
  singular: string,
): Promise<RecordJson[]> {
  const requests = changes.map(({ record, body }) => ({
    [singular]: { name: record.name, etag: record.etag, ...nested(body) },
    updateMask: Object.keys(body).join(","),
  }));
  const data = await got(
    client.POST("/v1/{collection}:{verb}", {
      params: { path: { collection, verb: "batchUpdate" } },
      body: { requests },
    }),
  );
  const records = recordsOf(data, collection);
  context.onWritten(collection, records);
  return records;
}

export async function aggregate(
  collection: string,
  query: AggregateQuery,
  signal?: AbortSignal,
): Promise<AggregateRow[]> {
  const data = await got(
    client.GET("/v1/{collection}:{verb}", {
      params: { path: { collection, verb: "aggregate" }, query: present(query) },
      signal,
    }),
  );
  return ((data["rows"] as Partial<AggregateRow>[] | undefined) ?? []).map((row) => ({
    group: row.group ?? [],
    count: row.count ?? "0",
    sums: row.sums ?? {},
    averages: row.averages ?? {},
  }));
}

export interface AccessExplanation {
  visible?: boolean;
  grounds?: { kind?: string; text?: string }[];
  actions?: { action?: string; permission?: string; allowed?: boolean }[];
  hiddenFields?: { field?: string }[];
}

/** Why the caller, or an employee, sees a record, and what else may be done to it. */
export async function explainAccess(name: string, employee = ""): Promise<AccessExplanation> {
  return got(
    client.GET("/v1/{collection}/{id}:{verb}", {
      params: { path: { ...splitName(name), verb: "explainAccess" }, query: present({ employee }) },
    }),
  ) as Promise<AccessExplanation>;
}

/** For the few paths that are no resource: session, files, search. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  headers.set("Accept-Language", context.locale);
  if (init.method && init.method !== "GET") {
    headers.set("X-CSRF", context.csrf);
    if (!headers.has("Idempotency-Key")) headers.set("Idempotency-Key", crypto.randomUUID());
  }
  const response = await fetch(path, { ...init, headers }).catch((error: unknown) => {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "UNREACHABLE", context.message("UNREACHABLE"));
  });
  if (response.ok) return response;
  const error = readError(response.status, await response.json().catch(() => null), context.message);
  if (error.status === 401 && path !== "/session") context.onSignedOut(error);
  throw error;
}

const recordsOf = (data: Json, collection: string) =>
  ((data[collection] as RecordJson[] | undefined) ?? []).map(flat);

/** A write, of which all that is shown takes note: of its answer, or that what is shown may be old where it is refused. */
async function written(
  collection: string,
  name: string | undefined,
  call: Promise<{ data?: RecordJson }>,
): Promise<RecordJson> {
  try {
    const record = flat(await got(call));
    context.onWritten(collection, [record]);
    return record;
  } catch (error) {
    if (name) context.onWritten(collection, [{ name }]);
    throw error;
  }
}

function headers(key?: string, etag?: string) {
  return {
    ...(key ? { "Idempotency-Key": key } : {}),
    ...(etag ? { "If-Match": `"${etag.replaceAll('"', "")}"` } : {}),
  };
}

function present<T extends object>(query: T): T {
  return Object.fromEntries(
    Object.entries(query).filter(([, value]) => value !== undefined && value !== "" && !isEmptyList(value)),
  ) as T;
}

const isEmptyList = (value: unknown) => Array.isArray(value) && value.length === 0;

async function got<T>(call: Promise<{ data?: T }>): Promise<T> {
  const { data } = await call;
  return data ?? ({} as T);
}
