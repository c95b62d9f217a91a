import type { Field, Resource } from "@/api/catalogue";
import { screenOf } from "@/resources";

const AT_MOST = 8;

export const isNumber = (field: Field) =>
  !field.many && (field.exact || ["money", "integer", "decimal"].includes(field.kind));

/** The declared ones of these fields, in the order in which they are named. */
export const fieldsNamed = (fields: Field[], names: readonly string[]): Field[] =>
  names.flatMap((name) => fields.find((field) => field.name === name) ?? []);

/** Every field that a column can show. */
export const possibleColumns = (resource: Resource): Field[] =>
  resource.fields.filter(
    (field) => !["name", "etag", "custom", "deleteTime"].includes(field.name) && field.kind !== "free",
  );

/** The columns that a list shows until somebody chooses: declared here, else marked as listed in the proto. */
export function defaultColumns(resource: Resource): Field[] {
  const byName = new Map(resource.fields.map((field) => [field.name, field]));
  const declared = fieldsNamed(resource.fields, screenOf(resource.collection).columns ?? []);
  if (declared.length > 0) return declared;
  const title = byName.get(resource.titleField);
  const listed = resource.fields.filter((field) => field.listed && field !== title);
  const number = resource.fields.find((field) => field.name === "number");
  const owner = byName.get("owner");
  const columns = [title, number, ...listed, owner].filter((field) => field !== undefined);
  return [...new Set(columns)].slice(0, AT_MOST);
}
