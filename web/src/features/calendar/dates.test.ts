import { describe, expect, it } from "vitest";
import { instantOf, wallTime } from "@/kit/zones";
import { dayAfter, shifted } from "./dates";

describe("times on the wall", () => {
  it("move without a zone and stay as they are written", () => {
    expect(shifted("2026-03-28T23:30", 3_600_000)).toBe("2026-03-29T00:30");
    expect(shifted("2026-12-31", 86_400_000)).toBe("2027-01-01");
    expect(dayAfter("2026-03-01", -1)).toBe("2026-02-28");
  });

  it("are an instant in their zone, in summer and in winter", () => {
    expect(instantOf("2026-01-15T09:00", "America/New_York").toISOString()).toBe("2026-01-15T14:00:00.000Z");
    expect(instantOf("2026-07-15T09:00", "America/New_York").toISOString()).toBe("2026-07-15T13:00:00.000Z");
    expect(wallTime(instantOf("2026-03-29T12:00", "Europe/Berlin"), "Europe/Berlin")).toBe(
      "2026-03-29T12:00",
    );
  });
});
