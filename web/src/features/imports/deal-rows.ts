import type { Json } from "@/api/client";
import type { DateJson } from "@/kit/dates";
import { parseAmount } from "@/kit/money";
import type { Mapping } from "./mapping";

/** One line of the file: what the server takes, or why it never got there. */
export interface Deal {
  line: number;
  row: Json;
  /** What the file itself calls its customer and its product. */
  said: Record<Named, string>;
  problems: Problem[];
}

export type Named = "account" | "product";
/** What texts of the file are called here. */
export type Names = Record<Named, Record<string, string>>;
/** Reasons that end once somebody says which record is meant. */
export const NAMED: Record<string, Named> = {
  ACCOUNT_MISSING: "account",
  ACCOUNT_UNKNOWN: "account",
  PRODUCT_UNKNOWN: "product",
};

/** Why a line is not taken, and what was written there. */
export interface Problem {
  reason: string;
  text: string;
}

export type DayOrder = "MDY" | "DMY";

export interface Reading {
  currency: string;
  days: DayOrder;
  /** What the file says of a deal's progress → WON, LOST or OPEN, the last with the key of a stage behind it. */
  progress: Record<string, string>;
  /** What accounts and products of the file are called here; the account of deals that name none stands behind "". */
  names: Names;
}

const TURNED = /^(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})$/;
const STRAIGHT = /^(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?$/;
const DAYS = ["openDate", "closeDate"];

/** The texts of a column that a field is mapped to. */
export function textsOf(lines: string[][], columns: string[], mapping: Mapping, field: string): string[] {
  const at = columns.findIndex((column) => mapping[column] === field);
  return at < 0 ? [] : [...new Set(lines.map((line) => (line[at] ?? "").trim()))];
}

/** Which number of days with the year last is the month; undefined where nothing tells, or no day is written so. */
export function dayOrder(texts: string[]): { asked: boolean; order?: DayOrder } {
  const pairs = texts.flatMap((text) => {
    const [, first, second] = TURNED.exec(text) ?? [];
    return first && second ? [[Number(first), Number(second)] as const] : [];
  });
  const asked = pairs.length > 0;
  if (pairs.some(([first]) => first > 12)) return { asked, order: "DMY" };
  if (pairs.some(([, second]) => second > 12)) return { asked, order: "MDY" };
  return { asked };
}

/** The lines of the file as the import takes them. */
export function dealsOf(lines: string[][], columns: string[], mapping: Mapping, reading: Reading): Deal[] {
  return lines.map((cells, index) => {
    const problems: Problem[] = [];
    const row: Json = {};
    const said = { account: "", product: "" };
    columns.forEach((column, at) => {
      const field = mapping[column];
      const text = (cells[at] ?? "").trim();
      if (field === "account" || field === "product") {
        said[field] = text;
        const name = reading.names[field][text] ?? text;
        if (name) row[field] = name;
      } else if (field === "state") {
        const [state, stage] = (reading.progress[text] ?? "").split(":");
        if (!state) problems.push({ reason: "STATE_UNKNOWN", text });
        row["state"] = state;
        if (stage) row["stage"] = stage;
      } else if (!field || text === "") return;
      else if (DAYS.includes(field)) {
        const day = dayOf(text, reading.days);
        if (day) row[field] = day;
        else problems.push({ reason: "DATE_WRONG", text });
      } else if (field === "amount") {
        const amount = parseAmount(text, reading.currency);
        if (amount) row[field] = amount;
        else problems.push({ reason: "AMOUNT_WRONG", text });
      } else row[field] = text;
    });
    if (!row["externalId"]) problems.push({ reason: "KEY_MISSING", text: "" });
    return { line: index + 2, row, said, problems };
  });
}

function dayOf(text: string, order: DayOrder): DateJson | undefined {
  const straight = STRAIGHT.exec(text);
  const turned = TURNED.exec(text);
  const [, first, second, year] = turned ?? [];
  const [, y, m, d] =
    straight ?? (turned ? ["", year, ...(order === "MDY" ? [first, second] : [second, first])] : []);
  if (!y) return undefined;
  const found = { year: Number(y), month: Number(m), day: Number(d) };
  const date = new Date(Date.UTC(found.year, found.month - 1, found.day));
  return date.getUTCMonth() === found.month - 1 && date.getUTCDate() === found.day ? found : undefined;
}
