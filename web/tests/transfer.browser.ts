import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, field, press, visit, openTab } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const CUSTOMER = `交接客户${Date.now().toString(36)}`;
// Eight services answer, one after the other, on a machine that has much else to do.
const PATIENCE = { timeout: 45_000 };

let context: BrowserContext;
let page: Page;
let account = "";
let path = "";

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE, "sales1");
  const { employee: leaver } = await api(page, "GET", "/session");
  const made = await api(page, "POST", "/v1/accounts", { displayName: CUSTOMER, kind: "COMPANY" });
  account = String(made["name"]);
  await context.clearCookies();
  await signIn(page, BASE, "manager");
  const { employee } = await api(page, "GET", "/session");
  const handover = await api(page, "POST", "/v1/transfers", {
    from: leaver,
    reason: "MOVE",
    plan: [{ items: [account], to: [employee] }],
  });
  path = `/${String(handover["name"])}`;
});

afterAll(() => context?.close());

const state = (text: string) =>
  page.locator("main .title-line .tag").filter({ hasText: text }).waitFor(PATIENCE);

describe("a handover", () => {
  it("counts what somebody has before it moves anything", async () => {
    await visit(page, path);
    await page.getByRole("tabpanel").getByText("接收人").waitFor();
    await check(page, "transfer-plan");
    await page.getByRole("button", { name: "预览", exact: true }).click();
    await openTab(page, "名下工作");
    await state("已预览");
    await page.getByRole("row").filter({ hasText: "客户" }).first().waitFor();
    await check(page, "transfer-preview");
  });

  it("moves it, and is taken back", async () => {
    // Who runs it and is the receiver too need not accept it.
    await press(page, "执行交接", "已完成", async () => undefined);
    await openTab(page, "交接明细");
    const moved = page.getByRole("row").filter({ hasText: CUSTOMER });
    await moved.waitFor(PATIENCE);
    await check(page, "transfer-items");
    await press(page, "撤销交接", "已撤销", async () => undefined);
    await moved.getByText("已撤销").waitFor(PATIENCE);
  });

  it("waits for another receiver, who takes one customer and sends the other back with a reason", async () => {
    await context.clearCookies();
    await signIn(page, BASE, "sales1");
    const { employee: leaver } = await api(page, "GET", "/session");
    const given = await Promise.all(
      [1, 2].map((at) =>
        api(page, "POST", "/v1/accounts", { displayName: `${CUSTOMER}之${at}`, kind: "COMPANY" }),
      ),
    );
    await context.clearCookies();
    await signIn(page, BASE, "manager");
    const { employee: receiver } = await api(page, "GET", "/session");
    await context.clearCookies();
    await signIn(page, BASE);
    const handover = await api(page, "POST", "/v1/transfers", {
      from: leaver,
      reason: "MOVE",
      plan: [{ items: given.map(({ name }) => name), to: [receiver] }],
    });
    await visit(page, `/${String(handover["name"])}`);
    await page.getByRole("button", { name: "预览", exact: true }).click();
    await state("已预览");
    await press(page, "执行交接", "待接收", async () => undefined);

    await context.clearCookies();
    await signIn(page, BASE, "manager");
    await visit(page, `/${String(handover["name"])}?tab=items`);
    const row = (at: number) => page.getByRole("row").filter({ hasText: `${CUSTOMER}之${at}` });
    await row(1).getByRole("checkbox").check();
    await check(page, "transfer-receiver");
    await page.getByRole("button", { name: /^接收 1/ }).click();
    await page.getByRole("dialog").getByRole("button", { name: "接收" }).click();
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await row(2).getByRole("checkbox").check();
    await page.getByRole("button", { name: /^拒收 1/ }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("button", { name: "拒收" }).click();
    await dialog.locator(".field-error, [role=alert]").first().waitFor();
    await field(dialog, "拒收原因").fill("不在我的区域");
    await check(page, "transfer-decline");
    await dialog.getByRole("button", { name: "拒收" }).click();
    await dialog.waitFor({ state: "detached" });
    await row(1).getByText("已接收").waitFor(PATIENCE);
    await row(2).getByText("已拒收").waitFor(PATIENCE);
    await check(page, "transfer-answered");
  });

  it("is followed on a phone", async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    await check(page, "transfer-phone");
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
  });

  it("keeps nobody out", () => expect(barriers).toEqual([]));
});
