import type { Json } from "@/api/client";

/** Equal as JSON, whatever the order of keys; absent, null and "" are one. */
export function same(left: unknown, right: unknown): boolean {
  if (isBlank(left) && isBlank(right)) return true;
  if (Array.isArray(left) && Array.isArray(right))
    return left.length === right.length && left.every((item, index) => same(item, right[index]));
  if (isObject(left) && isObject(right)) {
    const keys = new Set([...Object.keys(left), ...Object.keys(right)]);
    return [...keys].every((key) => same(left[key], right[key]));
  }
  return left === right;
}

/** The body of a PATCH: only what changed, `null` for what was cleared. Its keys are the mask. */
export function patchOf(base: Json, mine: Json, fields: readonly string[]): Json {
  return Object.fromEntries(
    fields
      .filter((field) => !same(base[field], mine[field]))
      .map((field) => [field, isBlank(mine[field]) ? null : mine[field]]),
  );
}

/** The body of a create: what was filled in. */
export function bodyOf(values: Json, fields: readonly string[]): Json {
  return Object.fromEntries(
    fields.filter((field) => !isBlank(values[field])).map((field) => [field, values[field]]),
  );
}

export const isBlank = (value: unknown) =>
  value === undefined || value === null || value === "" || (Array.isArray(value) && value.length === 0);

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);
