import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BrowserContext, Page } from "playwright-core";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const name = `电话开发${Date.now().toString(36)}`;
let context: BrowserContext;
let page: Page;

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE, "sales1");
  const account = await api(page, "POST", "/v1/accounts", { displayName: `${name}公司`, kind: "COMPANY" });
  await api(page, "POST", "/v1/contacts", { displayName: `${name}联系人`, account: account["name"] });
});

afterAll(() => context?.close());

const viewsMenu = () =>
  page
    .locator(".list-bar")
    .getByRole("button", { name: /视图|默认|电话开发/ })
    .first();

describe("a list as one likes it", () => {
  it("is kept under a name with its filter and columns", async () => {
    await visit(page, `/contacts?columns=displayName,title&order=displayName`);
    await viewsMenu().click();
    await page.getByRole("menuitem", { name: "另存为" }).click();
    await page.getByRole("dialog").getByLabel("视图名称").fill(name);
    await page.getByRole("dialog").getByRole("button", { name: "保存" }).click();
    await page.locator(".list-bar").getByRole("button", { name }).waitFor();
    await check(page, "view-kept");
  });

  it("says that it was changed, saves the change, and comes back when it is the default", async () => {
    await viewsMenu().click();
    await page.getByRole("menuitem", { name: "设为默认视图" }).click();
    await page.getByText("已保存").waitFor();
    await visit(page, "/contacts");
    await page.locator(".list-bar").getByRole("button", { name }).waitFor();
    await expect.poll(() => page.getByRole("columnheader").count(), { timeout: 15_000 }).toBe(3);
    await page.getByRole("columnheader", { name: "职务" }).getByRole("button").click();
    await page.locator(".list-bar").getByText("已修改").waitFor();
    await viewsMenu().click();
    await page.getByRole("menuitem", { name: /^保存/ }).click();
    await page.locator(".list-bar").getByText("已修改").waitFor({ state: "detached" });
  });

  it("is shared with a colleague, who may use but not change it", async () => {
    await viewsMenu().click();
    await page.getByRole("menuitem", { name: "共享" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("可以使用此视图的同事").click();
    const { employees } = await api(
      page,
      "GET",
      `/v1/employees?filter=${encodeURIComponent('username = "sales2"')}`,
    );
    const colleague = (employees as { displayName: string }[])[0]?.displayName ?? "";
    await page.keyboard.type(colleague, { delay: 40 });
    await page.locator(".ant-select-item-option").filter({ hasText: colleague }).click();
    await dialog.getByText("共享", { exact: false }).first().click();
    await check(page, "view-share");
    await dialog.getByRole("button", { name: "保存" }).click();
    await page.getByText("已更新共享").waitFor();

    const other = await open({ width: 1280, height: 800 });
    const theirs = other.pages()[0] ?? (await other.newPage());
    await signIn(theirs, BASE, "sales2");
    await visit(theirs, "/contacts");
    await theirs.locator(".list-bar").getByRole("button", { name: "视图" }).click();
    await theirs.getByRole("menuitem", { name: `${name} · 同事共享` }).click();
    await theirs.locator(".list-bar").getByRole("button", { name }).click();
    expect(await theirs.getByRole("menuitem", { name: "共享…" }).count()).toBe(0);
    await other.close();
  });

  it("goes away when it is deleted", async () => {
    await viewsMenu().click();
    await page.getByRole("menuitem", { name: /^删除/ }).click();
    await page.getByText("视图已删除").waitFor();
    const left = await api(
      page,
      "GET",
      `/v1/savedViews?filter=${encodeURIComponent(`displayName = "${name}"`)}`,
    );
    expect(left["savedViews"] ?? []).toEqual([]);
  });

  it("was kept out nowhere", () => expect(barriers).toEqual([]));
});
