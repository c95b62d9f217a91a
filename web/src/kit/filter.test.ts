import { describe, expect, it } from "vitest";
import { allOf, decodeFilter, encodeFilter, filterText, NO_FILTER, parseFilter, type Filter } from "./filter";

const numeric = new Set(["amount"]);
const text = (filter: Filter) => filterText(filter, (field) => !numeric.has(field));

describe("the filter builder", () => {
  it("joins conditions of a group by AND and groups by OR", () => {
    expect(
      text({
        groups: [
          [
            { field: "state", operator: "is", value: "OPEN" },
            { field: "amount", operator: "over", value: "1000" },
          ],
          [{ field: "owner", operator: "is", value: "me" }],
        ],
      }),
    ).toBe('(state = "OPEN" AND amount > 1000) OR owner = me');
  });

  it("escapes what people type", () => {
    expect(text({ groups: [[{ field: "displayName", operator: "contains", value: 'a"b\\' }]] })).toBe(
      'displayName:"a\\"b\\\\"',
    );
  });

  it("leaves out conditions that are not complete", () => {
    expect(
      text({
        groups: [
          [{ field: "a", operator: "is", value: " " }],
          [{ field: "b", operator: "empty", value: "" }],
        ],
      }),
    ).toBe("NOT b:*");
  });

  it("keeps an OR together when it is narrowed further", () => {
    expect(allOf('a = "1" OR b = "2"', "", 'c = "3"')).toBe('(a = "1" OR b = "2") AND c = "3"');
    expect(allOf(undefined, 'c = "3"')).toBe('c = "3"');
  });

  it("survives the way through the address bar", () => {
    const filter: Filter = { groups: [[{ field: "state", operator: "isNot", value: "WON" }]] };
    expect(decodeFilter(encodeFilter(filter))).toEqual(filter);
    expect(decodeFilter("{broken")).toEqual(NO_FILTER);
    expect(encodeFilter(NO_FILTER)).toBe("");
  });

  it("comes back from the text that a saved view keeps", () => {
    const filter: Filter = {
      groups: [
        [
          { field: "displayName", operator: "contains", value: 'a"b\\ OR c' },
          { field: "amount", operator: "atLeast", value: "1000" },
        ],
        [{ field: "owner", operator: "is", value: "me" }],
        [
          { field: "stage", operator: "isNot", value: "(x) AND y" },
          { field: "closeTime", operator: "empty", value: "" },
        ],
      ],
    };
    expect(parseFilter(text(filter))).toEqual(filter);
    expect(parseFilter("")).toEqual(NO_FILTER);
  });

  it("asks for one of several values, alone and among others", () => {
    const several = { field: "state", operator: "oneOf", value: "OPEN|WON" } as const;
    const mine = { field: "owner", operator: "is", value: "me" } as const;
    expect(text({ groups: [[several]] })).toBe('(state = "OPEN" OR state = "WON")');
    for (const filter of [
      { groups: [[several]] },
      { groups: [[mine, several]] },
      { groups: [[several, mine], [mine]] },
    ])
      expect(parseFilter(text(filter))).toEqual(filter);
    expect(parseFilter('(state = "OPEN" OR owner = me)')).toBeNull();
  });

  it("does not pretend to read what the builder cannot show", () => {
    for (const foreign of ["(a = 1 OR b = 2) AND c = 3", "NOT a = 1", "a = 1 AND", "a ~ 1", "(a = 1"])
      expect(parseFilter(foreign)).toBeNull();
  });
});
