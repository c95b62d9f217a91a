import { queryOptions } from "@tanstack/react-query";
import { request } from "@/api/client";

/**
 * What a path beyond the standard methods answers. The key begins with what it belongs to: `["record", name, …]`
 * or `["list", collection, …]` comes anew when that changes.
 */
export const gotQuery = <T>(key: readonly [string, ...unknown[]], path: string) =>
  queryOptions({
    queryKey: key,
    queryFn: async ({ signal }) => (await (await request(path, { signal })).json()) as T,
  });

/** Calls a path beyond the standard methods. */
export async function post<T>(path: string, body: object): Promise<T> {
  const response = await request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return (await response.json()) as T;
}
