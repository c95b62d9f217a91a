import { describe, expect, it } from "vitest";
import { addAmounts, formatMoney, multiply, parseAmount } from "./money";

describe("money", () => {
  it("reads what people type as an exact decimal string", () => {
    expect(parseAmount("1,234,567.5")).toBe("1234567.50");
    expect(parseAmount("１２３．４")).toBe("123.40");
    expect(parseAmount("￥12")).toBe("12.00");
    expect(parseAmount("007")).toBe("7.00");
    expect(parseAmount("-0.10")).toBe("-0.10");
    expect(parseAmount(".5")).toBe("0.50");
    expect(parseAmount("100", "JPY")).toBe("100");
  });

  it("refuses what is no amount or has more places than the currency", () => {
    for (const typed of ["", "abc", "1.234", "1.2.3", "-", "1e3"]) expect(parseAmount(typed)).toBeNull();
    expect(parseAmount("1.5", "JPY")).toBeNull();
  });

  it("shows amounts beyond the exactness of a float without loss", () => {
    expect(formatMoney({ currencyCode: "CNY", amount: "1234567.5" }, "zh-CN")).toBe("¥1,234,567.50");
    expect(formatMoney({ currencyCode: "CNY", amount: "90071992547409931.25" }, "en")).toBe(
      "¥90,071,992,547,409,931.25",
    );
    expect(formatMoney(undefined, "en")).toBe("");
  });

  it("adds and multiplies exactly", () => {
    expect(addAmounts(["0.10", "0.20"])).toBe("0.30");
    expect(addAmounts(["-5", "2.5"])).toBe("-2.5");
    expect(multiply("19.99", "3", 2)).toBe("59.97");
    expect(multiply("0.335", "1", 2)).toBe("0.34");
    expect(multiply("-0.335", "1", 2)).toBe("-0.34");
  });
});
