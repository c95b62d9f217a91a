import { COMMON, type Field, type Resource } from "@/api/catalogue";
import type { Json } from "@/api/client";
import type { Violation } from "@/api/errors";
import { screenOf } from "@/resources";
import { isBlank } from "./patch";

export interface Section {
  key: "main" | "more" | "texts" | "lists" | "custom";
  fields: Field[];
}

/** Fields that a person may fill in, as opposed to what the platform or a verb writes. */
export function editableFields(resource: Resource, creating: boolean): Field[] {
  return resource.fields.filter(
    (field) =>
      !field.readOnly &&
      !screenOf(resource.collection).unasked?.includes(field.name) &&
      (!COMMON.has(field.name) || screenOf(resource.collection).asked?.includes(field.name)) &&
      field.kind !== "free" &&
      (creating || !field.immutable),
  );
}

/** Fields that one value in a cell can hold, for changing them in a list. */
export const inlineFields = (resource: Resource): Field[] =>
  editableFields(resource, false).filter(
    (field) => !field.many && !field.multiline && !["object", "keyed"].includes(field.kind),
  );

/** Whether a table may hold such records, a row for each: nothing that one must say of it is a list or a file. */
export function isImportable({ collection, has, menu, fields }: Resource): boolean {
  const { noForm, oneByOne } = screenOf(collection);
  const inOneCell = ({ kind, many, references }: Field) =>
    !many && kind !== "object" && kind !== "free" && !references.includes("files");
  return (
    has.create &&
    menu !== "settings" &&
    !noForm &&
    !oneByOne &&
    fields.every((field) => !field.required || field.readOnly || inOneCell(field))
  );
}

/** Whether the field makes sense with what is filled in elsewhere. */
export function isShown(resource: Resource, field: Field, values: Json): boolean {
  const rule = field.showWhen ?? screenOf(resource.collection).showWhen?.[field.name];
  return !rule || rule.is.includes(String(values[rule.field] ?? "")) || !isBlank(values[field.name]);
}

/** The sections of a long form: what matters first, then the rest, then texts and lists over the full width. */
export function sectionsOf(all: Field[]): Section[] {
  const wide = (field: Field) => field.kind === "object" && field.many && !isParties(field);
  const custom = all.filter(isCustom);
  const fields = all.filter((field) => !isCustom(field));
  const main = fields.filter(
    (field) => !wide(field) && !field.multiline && (field.required || field.quick || field.listed),
  );
  const rest = fields.filter((field) => !wide(field) && !field.multiline && !main.includes(field));
  const sections: Section[] = [
    { key: "main", fields: main },
    { key: "more", fields: rest },
    { key: "texts", fields: fields.filter((field) => field.multiline) },
    { key: "lists", fields: fields.filter(wide) },
    { key: "custom", fields: custom },
  ];
  return sections.filter((section) => section.fields.length > 0);
}

/** A list of people by address and name, which one line holds. */
export const isParties = ({ kind, many, fields }: Field) =>
  kind === "object" &&
  many &&
  fields.length === 2 &&
  fields.every(({ name }) => name === "address" || name === "displayName");

const isCustom = (field: Field) => field.name.startsWith("custom.");

/** What can be told before asking the server. */
export function missingFields(fields: Field[], values: Json): Field[] {
  return fields.filter((field) => field.required && isBlank(values[field.name]));
}

/** Server violations by the field of the form that they belong to: `account.phones[0].number` → `phones`. */
export function violationsByField(
  violations: readonly Violation[],
  fields: Field[],
): { byField: Record<string, string>; others: string[] } {
  const byField: Record<string, string> = {};
  const others: string[] = [];
  for (const { field, description } of violations) {
    // Keys of custom fields are their authors' and stay as they are.
    const custom = /custom\.[a-z0-9_]+/.exec(field)?.[0];
    const parts = custom ? [custom] : field.split(/[.[]/).map(camel);
    const known = parts.find((part) => fields.some(({ name }) => name === part));
    const line = /\[(\d+)\]/.exec(field)?.[1];
    const text = line === undefined ? description : `${Number(line) + 1}: ${description}`;
    if (known) byField[known] = byField[known] ? `${byField[known]} ${text}` : text;
    else others.push(field ? `${field}: ${description}` : description);
  }
  return { byField, others };
}

/** The name in JSON of what the proto calls otherwise: `displayName` for `display_name`. */
export const camel = (part: string) => part.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
