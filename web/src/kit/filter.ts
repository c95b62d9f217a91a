/** The filter builder's model and its text in the grammar of AIP-160. */

export type Operator =
  "is" | "isNot" | "oneOf" | "contains" | "over" | "atLeast" | "under" | "atMost" | "empty" | "notEmpty";

export interface Condition {
  field: string;
  operator: Operator;
  /** For `oneOf` the values with a bar between them. */
  value: string;
}

const BAR = "|";
export const valuesOf = (value: string) => value.split(BAR).filter(Boolean);
export const joinValues = (values: readonly string[]) => values.join(BAR);

/** Groups are joined by OR, the conditions inside a group by AND. In the grammar OR binds tighter, hence the parentheses. */
export interface Filter {
  groups: Condition[][];
}

export const NO_FILTER: Filter = { groups: [] };

const SIGN: Partial<Record<Operator, string>> = {
  is: "=",
  isNot: "!=",
  over: ">",
  atLeast: ">=",
  under: "<",
  atMost: "<=",
};

/** Values that the server understands by themselves and that must not be quoted. */
const BARE =
  /^(me|true|false|-?\d+(\.\d+)?|(today|now|startOfWeek|startOfMonth|startOfQuarter|startOfYear)([+-]\d+(min|[hdwmqy]))*)$/;

export function filterText(filter: Filter, quoted: (field: string) => boolean = () => true): string {
  const groups = filter.groups
    .map((group) =>
      group.filter((condition) => isComplete(condition)).map((condition) => conditionText(condition, quoted)),
    )
    .filter((group) => group.length > 0);
  if (groups.length === 1) return (groups[0] ?? []).join(" AND ");
  return groups.map((group) => (group.length > 1 ? `(${group.join(" AND ")})` : group[0])).join(" OR ");
}

export function isComplete(condition: Condition): boolean {
  return condition.field !== "" && (takesNoValue(condition.operator) || condition.value.trim() !== "");
}

export const takesNoValue = (operator: Operator) => operator === "empty" || operator === "notEmpty";

function conditionText({ field, operator, value }: Condition, quoted: (field: string) => boolean): string {
  if (operator === "empty") return `NOT ${field}:*`;
  if (operator === "notEmpty") return `${field}:*`;
  if (operator === "oneOf") {
    const parts = valuesOf(value).map((one) => `${field} = ${literal(one, quoted(field))}`);
    return parts.length > 1 ? `(${parts.join(" OR ")})` : (parts[0] ?? "");
  }
  if (operator === "contains") return `${field}:${literal(value)}`;
  return `${field} ${SIGN[operator] ?? "="} ${literal(value, quoted(field))}`;
}

export function literal(value: string, quoted = true): string {
  const text = value.trim();
  return text === "me" || (!quoted && BARE.test(text)) ? text : quote(text);
}

export const quote = (text: string) => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;

/** Joins filters that all must hold. */
export function allOf(...filters: (string | undefined)[]): string {
  const given = filters.filter((filter): filter is string => Boolean(filter));
  return given.length > 1
    ? given.map((filter) => (/\bOR\b/.test(filter) ? `(${filter})` : filter)).join(" AND ")
    : (given[0] ?? "");
}

/** Compact form for the address bar; `decodeFilter` reads it back. */
export function encodeFilter(filter: Filter): string {
  return filter.groups.length === 0
    ? ""
    : JSON.stringify(
        filter.groups.map((group) => group.map(({ field, operator, value }) => [field, operator, value])),
      );
}

/** A link that somebody mistyped shows everything rather than breaking the page. */
export function decodeFilter(text: string | null): Filter {
  if (!text) return NO_FILTER;
  try {
    const groups = JSON.parse(text) as [string, Operator, string][][];
    return {
      groups: groups.map((group) =>
        group.map(([field, operator, value]) => ({ field: String(field), operator, value: String(value) })),
      ),
    };
  } catch {
    return NO_FILTER;
  }
}

const SIGNS: Record<string, Operator> = {
  "=": "is",
  "!=": "isNot",
  ">": "over",
  ">=": "atLeast",
  "<": "under",
  "<=": "atMost",
};
const VALUE = String.raw`"((?:[^"\\]|\\.)*)"|([^\s()"]+)`;
const CONDITION = new RegExp(
  String.raw`^(?:(NOT )?([\w.]+):\*|([\w.]+):(?:${VALUE})|([\w.]+) (>=|<=|!=|=|>|<) (?:${VALUE}))`,
);

const ONE_OF = new RegExp(
  String.raw`^\((\w+) = (?:"(?:[^"\\]|\\.)*"|[^\s()"]+)(?: OR \1 = (?:"(?:[^"\\]|\\.)*"|[^\s()"]+))+\)`,
);
const EQUAL = new RegExp(String.raw`= (?:"((?:[^"\\]|\\.)*)"|([^\s()"]+))`, "g");

/** Reads what `filterText` wrote, for filters that were kept as text; null where somebody wrote more than it can show. */
export function parseFilter(text: string): Filter | null {
  const groups: Condition[][] = [];
  let rest = text.trim();
  if (rest === "") return NO_FILTER;
  let group: Condition[] = [];
  let inside = false;
  for (;;) {
    if (!inside && rest.startsWith("(") && !ONE_OF.test(rest)) {
      inside = true;
      rest = rest.slice(1);
    }
    const several = ONE_OF.exec(rest);
    const match = several ?? CONDITION.exec(rest);
    if (!match) return null;
    group.push(several ? oneOf(several) : conditionOf(match));
    rest = rest.slice(match[0].length);
    if (inside && rest.startsWith(")")) {
      inside = false;
      rest = rest.slice(1);
    }
    if (rest === "" || rest.startsWith(" OR ")) {
      if (inside) return null;
      groups.push(group);
      group = [];
      if (rest === "") return { groups };
      rest = rest.slice(4);
    } else if (rest.startsWith(" AND ")) rest = rest.slice(5);
    else return null;
  }
}

function conditionOf(match: RegExpExecArray): Condition {
  const [, not, present, has = "", hasText, hasWord, compared = "", sign = "=", text, word] = match;
  if (present) return { field: present, operator: not ? "empty" : "notEmpty", value: "" };
  if (has) return { field: has, operator: "contains", value: unquote(hasText) ?? hasWord ?? "" };
  return { field: compared, operator: SIGNS[sign] ?? "is", value: unquote(text) ?? word ?? "" };
}

function oneOf([text, field = ""]: RegExpExecArray): Condition {
  const values = [...text.matchAll(EQUAL)].map(([, quoted, word]) => unquote(quoted) ?? word ?? "");
  return { field, operator: "oneOf", value: joinValues(values) };
}

const unquote = (text: string | undefined) => text?.replace(/\\(.)/g, "$1");
