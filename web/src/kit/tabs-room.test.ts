import { describe, expect, it } from "vitest";
import { fitting } from "./tabs-room";

const tabs = ["lines", "tasks", "quotes", "history"].map((key) => ({ key }));
const keys = (room: number, active: string, uses: Record<string, number> = {}) =>
  fitting(tabs, [100, 100, 100, 100], room, active, uses).map(({ key }) => key);

describe("a row of tabs", () => {
  it("shows all where there is room", () => expect(keys(400, "lines")).toHaveLength(4));

  it("shows as many as fit beside the menu, in their order", () =>
    expect(keys(399, "lines")).toEqual(["lines", "tasks"]));

  it("keeps the open one and those that are opened most", () =>
    expect(keys(399, "history", { quotes: 3 })).toEqual(["quotes", "history"]));

  it("shows the open one however little room there is", () => expect(keys(50, "tasks")).toEqual(["tasks"]));
});
