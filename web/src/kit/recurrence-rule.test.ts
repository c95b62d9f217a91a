import { describe, expect, it } from "vitest";
import { readRule, writeRule } from "./recurrence-rule";

describe("the recurrence editor", () => {
  it("reads what it wrote", () => {
    for (const text of [
      "FREQ=DAILY;COUNT=10",
      "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,FR;UNTIL=20270331T235959",
      "FREQ=MONTHLY;COUNT=3",
    ])
      expect(writeRule(readRule(text) ?? { freq: "" })).toBe(text);
    expect(readRule("")).toEqual({ freq: "" });
  });

  it("leaves alone what it cannot show", () => {
    expect(readRule("FREQ=MONTHLY;BYDAY=2TU;COUNT=4")).toBeNull();
    expect(readRule("FREQ=HOURLY;COUNT=4")).toBeNull();
  });
});
