import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, settled, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const stamp = Date.now().toString(36);
const CUSTOMER = `门店客户${stamp}`;
const codes = Array.from({ length: 10 }, (_, at) => `69${Date.now()}${at}`);
const LINES = 30;
const A_MINUTE = 60_000;

let staff: BrowserContext;
let visitor: BrowserContext;
let till: Page;
let shop: Page;

beforeAll(async () => {
  staff = await open({ width: 1440, height: 900 });
  till = staff.pages()[0] ?? (await staff.newPage());
  await signIn(till, BASE);
  await api(till, "POST", "/v1/accounts", { displayName: CUSTOMER, kind: "COMPANY" });
  for (const [at, barcode] of codes.entries()) {
    const made = await api(till, "POST", "/v1/products", {
      displayName: `货架商品${stamp}-${at}`,
      code: `${stamp}-${at}`,
      barcode,
      unit: "件",
      taxRate: "13",
      listPrice: { currencyCode: "CNY", amount: "10.00" },
      inShop: true,
    });
    await api(till, "POST", `/v1/${String(made["name"])}:activate`, {});
  }
  visitor = await open({ width: 1280, height: 900 });
  shop = visitor.pages()[0] ?? (await visitor.newPage());
});

afterAll(async () => {
  await staff?.close();
  await visitor?.close();
});

describe("the shop", () => {
  it("lets a visitor look, and keeps his basket for the next visit", async () => {
    await visit(shop, "/shop");
    await shop.getByRole("searchbox").fill(`货架商品${stamp}-3`);
    const put = shop.getByRole("button", { name: `加入购物篮 货架商品${stamp}-3` });
    await put.click();
    const basket = shop.getByRole("region", { name: "购物篮" });
    await basket.getByText(`货架商品${stamp}-3`).waitFor();
    await put.click();
    await basket.getByText("¥22.60").first().waitFor();
    await check(shop, "shop");
    await shop.reload();
    await basket.getByText("¥22.60").first().waitFor();
    expect(await basket.getByRole("link", { name: "登录后下单" }).getAttribute("href")).toContain(
      encodeURIComponent("/shop"),
    );
  });

  it("speaks English, on a phone too", async () => {
    await shop.setViewportSize({ width: 390, height: 844 });
    await shop.getByRole("button", { name: "English" }).click();
    await shop.getByRole("heading", { name: "Web shop" }).waitFor();
    await check(shop, "shop-phone");
  });
});

describe("the till", () => {
  it("takes thirty lines within a minute from the keyboard alone", async () => {
    await visit(till, "/till");
    await choose(till, till.getByLabel("客户", { exact: true }), CUSTOMER, CUSTOMER);
    const code = till.getByLabel("条码或编码");
    await settled(till);
    await code.focus();
    const begun = Date.now();
    for (let at = 0; at < LINES; at++) {
      await till.keyboard.type(codes[at % codes.length] ?? "");
      await till.keyboard.press("Enter");
      await till.keyboard.type(String((at % 3) + 1));
      await till.keyboard.press("Enter");
    }
    const basket = till.getByRole("region", { name: "购物篮" });
    await till.locator('[data-waiting="0"]').waitFor();
    await basket.getByText("¥678.00").first().waitFor();
    expect(Date.now() - begun).toBeLessThan(A_MINUTE);
    expect(await basket.locator("tbody tr").count()).toBe(codes.length);
    await check(till, "till");
  });

  it("says what it does not know, and sells", async () => {
    await till.getByLabel("条码或编码").fill("0000");
    await till.keyboard.press("Enter");
    await till.keyboard.press("Enter");
    await till.getByText("没有条码或编码为").waitFor();
    await till.getByRole("button", { name: "收款下单" }).click();
    await till.getByText("已售出").waitFor();
    await till.getByText("购物篮是空的").waitFor();
    await check(till, "till-sold");
  });

  it("keeps nobody out", () => expect(barriers).toEqual([]));
});
