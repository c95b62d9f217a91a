import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const OF = `权限客户${Date.now().toString(36)}`;

let context: BrowserContext;
let page: Page;
let account = "";

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE);
  account = String((await api(page, "POST", "/v1/accounts", { displayName: OF, kind: "COMPANY" }))["name"]);
});

afterAll(() => context?.close());

const named = async (collection: string, filter: string) => {
  const found = await api(page, "GET", `/v1/${collection}?filter=${encodeURIComponent(filter)}`);
  return (found[collection] as { name: string }[])[0]?.name ?? "";
};

describe("who may do what", () => {
  it("is compared between two roles, in words", async () => {
    const role = await named("roles", 'code = "sales_manager"');
    await visit(page, `/${role}?tab=compare`);
    await choose(page, page.getByLabel("与此角色对比"), "销售代表", "销售代表");
    await page.getByRole("columnheader", { name: /仅「销售经理」拥有/ }).waitFor();
    await page.getByText(/两个角色共有 \d+ 项权限/).waitFor();
    const told = await page.getByRole("tabpanel").innerText();
    expect(told).not.toMatch(/workspace\.\w+/);
    expect(told).toMatch(/商机报备 · 批准/);
    await check(page, "role-compare");
  });

  it("is said of a person, with the role that gives it", async () => {
    const person = await named("employees", 'displayName = "肖一凡"');
    await visit(page, `/${person}?tab=rights`);
    await page.getByLabel("查找权限").fill("商机 · 查看");
    const row = page.getByRole("tabpanel").locator("tbody tr").first();
    await row.waitFor();
    expect(await row.innerText()).toContain("销售代表");
    await check(page, "person-rights");
  });

  it("is explained of a record for somebody else", async () => {
    await visit(page, `/${account}`);
    await page.getByRole("button", { name: "为什么我能看到" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("可见", { exact: true }).waitFor();
    await choose(page, dialog.getByLabel("查看他人的权限"), "Han Bing", "Han Bing");
    await dialog.getByText("不可见", { exact: true }).waitFor();
    await check(page, "access-of-another");
    await page.keyboard.press("Escape");
  });

  it("is read on a phone, in English", async () => {
    await page.evaluate(() => localStorage.setItem("guanxi.language", "en"));
    await page.setViewportSize({ width: 390, height: 844 });
    await visit(page, `/${await named("employees", 'displayName = "肖一凡"')}?tab=rights`);
    await page.getByLabel("Find a right").fill("Opportunity");
    await check(page, "rights-phone");
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
  });

  it("leads nobody of any role to what is refused", async () => {
    for (const username of ["agent", "partner"]) {
      const theirs = await open({ width: 1440, height: 900 });
      const window = theirs.pages()[0] ?? (await theirs.newPage());
      await signIn(window, BASE, username);
      const links = await window
        .getByRole("navigation", { name: "主菜单" })
        .getByRole("link")
        .evaluateAll((all) => all.map((one) => new URL((one as HTMLAnchorElement).href).pathname));
      expect(links.length, username).toBeGreaterThan(1);
      const paths = Object.keys(
        (await api(window, "GET", "/openapi.json"))["paths"] as Record<string, unknown>,
      );
      for (const collection of links.filter((link) => paths.includes(`/v1${link}`)))
        await api(window, "GET", `/v1${collection}?pageSize=1`);
      await theirs.close();
    }
  });

  it("keeps nobody out", () => expect(barriers).toEqual([]));
});
