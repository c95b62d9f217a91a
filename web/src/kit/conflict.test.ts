import { expect, it } from "vitest";
import { merge } from "./conflict";

const FIELDS = ["a", "b", "c", "d"];

it("merges what only one side changed and asks about what both changed", () => {
  const base = { a: 1, b: 1, c: 1, d: 1 };
  const mine = { a: 2, b: 1, c: 2, d: 2 };
  const theirs = { a: 1, b: 3, c: 3, d: 2, etag: "new" };
  const { merged, conflicts } = merge(base, mine, theirs, FIELDS);
  expect(merged).toEqual({ a: 2, b: 3, c: 2, d: 2, etag: "new" });
  expect(conflicts).toEqual([{ field: "c", base: 1, mine: 2, theirs: 3 }]);
});

it("sees no conflict where both sides typed the same", () => {
  expect(merge({ a: 1 }, { a: 2 }, { a: 2 }, FIELDS).conflicts).toEqual([]);
});
