import { describe, expect, it } from "vitest";
import { exampleOf } from "./example";

const day = new Date(2026, 2, 8);

describe("the example of a pattern", () => {
  it("writes the day, the department and the counter", () =>
    expect(exampleOf("C-{dept}-{yyyyMM}{dd}-{seq:4}", day, 42, "HD")).toBe("C-HD-20260308-0042"));

  it("is absent while the counter is missing, doubled or half typed", () => {
    for (const pattern of ["C-{yyyy}", "{seq:4}{seq:4}", "C-{seq:4", "C-{day}-{seq:4}"])
      expect(exampleOf(pattern, day, 1, "HD"), pattern).toBe("");
  });
});
