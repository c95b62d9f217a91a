import { describe, expect, it } from "vitest";
import { isName } from "./queries";

describe("the name of a record", () => {
  it.each(["employees/0190a3c4-7d5e-7aaa-8bbb-0123456789ab", "system/workspace"])("is %s", (text) =>
    expect(isName(text)).toBe(true),
  );

  it.each([
    "Asia/Shanghai",
    "America/Argentina/Buenos_Aires",
    "text/calendar",
    "application/octet-stream",
    "A/B 12345678",
  ])("is not %s, which is read as it stands", (text) => expect(isName(text)).toBe(false));
});
