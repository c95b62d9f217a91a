import { describe, expect, it } from "vitest";
import { bodyOf, patchOf, same } from "./patch";

describe("the body of a change", () => {
  it("carries only what changed, and null for what was cleared", () => {
    const base = {
      displayName: "A",
      website: "a.cn",
      tags: ["x"],
      revenue: { currencyCode: "CNY", amount: "1.00" },
    };
    const mine = {
      displayName: "B",
      website: "",
      tags: ["x"],
      revenue: { amount: "1.00", currencyCode: "CNY" },
    };
    expect(patchOf(base, mine, Object.keys(base))).toEqual({ displayName: "B", website: null });
  });

  it("leaves alone what was empty and stays empty", () => {
    expect(patchOf({ tags: [] }, { tags: undefined }, ["tags"])).toEqual({});
  });

  it("of a create carries what was filled in", () => {
    expect(
      bodyOf({ displayName: "A", website: "", vip: false, count: 0 }, [
        "displayName",
        "website",
        "vip",
        "count",
      ]),
    ).toEqual({
      displayName: "A",
      vip: false,
      count: 0,
    });
  });

  it("compares nested values whatever the order of their keys", () => {
    expect(same([{ a: 1, b: null }], [{ a: 1 }])).toBe(true);
    expect(same([{ a: 1 }], [{ a: 2 }])).toBe(false);
  });
});
