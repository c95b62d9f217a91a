import { describe, expect, it } from "vitest";
import { isOfPortal, isOwnCompany } from "./portal";

describe("the portal", () => {
  it("leads people of a customer from their company to the profile, and nobody from home", () => {
    expect(isOwnCompany("/accounts/1", "accounts/1")).toBe(true);
    expect(isOwnCompany("/accounts/2", "accounts/1")).toBe(false);
    expect(isOwnCompany("/", "")).toBe(false);
  });

  it("has its pages, of collections that one reads, and no others", () => {
    const reads = (collection: string) => collection === "orders";
    for (const page of ["/", "/orders/1", "/profile", "/files"]) expect(isOfPortal(page, reads)).toBe(true);
    for (const page of ["/invoices", "/funnel", "/audit"]) expect(isOfPortal(page, reads)).toBe(false);
  });
});
