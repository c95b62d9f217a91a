import type { Field } from "@/api/catalogue";

/** Column of the file → field of the record. */
export type Mapping = Record<string, string>;

/** A text without what people write now so, now so. */
export const plain = (text: string) =>
  text
    .normalize("NFKC")
    .toLowerCase()
    .replace(/[\s_\-*（）()：:]/g, "");

/** What fits by its name in either language; each field is taken once. */
export function guessMapping(columns: readonly string[], fields: readonly Field[]): Mapping {
  const mapping: Mapping = {};
  const taken = new Set<string>();
  const tests: ((column: string, field: Field) => boolean)[] = [
    (column, field) => [field.label.zh, field.label.en, field.name].some((name) => plain(name) === column),
    (column, field) =>
      [field.label.zh, field.label.en].some((name) => plain(name).length > 1 && column.includes(plain(name))),
  ];
  for (const fits of tests)
    for (const column of columns) {
      if (mapping[column]) continue;
      const found = fields.find((field) => !taken.has(field.name) && fits(plain(column), field));
      if (!found) continue;
      mapping[column] = found.name;
      taken.add(found.name);
    }
  return mapping;
}
