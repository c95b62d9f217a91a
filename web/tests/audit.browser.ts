import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const OF = `审计客户${Date.now().toString(36)}`;
const RENAMED = `${OF}·新`;

let context: BrowserContext;
let page: Page;
let account = "";

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE);
  account = String((await api(page, "POST", "/v1/accounts", { displayName: OF, kind: "COMPANY" }))["name"]);
  await api(page, "PATCH", `/v1/${account}`, { displayName: RENAMED });
});

afterAll(() => context?.close());

/** Chooses what is called so, not what has it in its name. */
const pick = async (label: string, text: string) => {
  const input = page.getByRole("combobox", { name: label });
  await input.click();
  await input.pressSequentially(text, { delay: 30 });
  await page.locator(`.ant-select-item-option[title="${text}"]`).click();
};

describe("the audit", () => {
  it("is asked who did what on which kind of record, and says what was before and after", async () => {
    // The fact of the change comes into the chain in its own time.
    const filter = encodeURIComponent(`resource = "${account}" AND action = "UPDATED"`);
    await expect
      .poll(async () => (await api(page, "GET", `/v1/auditEntries?filter=${filter}`))["auditEntries"], {
        timeout: 60_000,
        interval: 1_000,
      })
      .toHaveLength(1);
    await visit(page, "/audit");
    await choose(page, page.getByLabel("操作人"), "管安", "管安");
    await pick("对象类型", "客户");
    await pick("动作", "修改");
    const row = page.getByRole("row").filter({ hasText: RENAMED }).first();
    await row.waitFor();
    await expect
      .poll(async () =>
        (await page.locator("tbody tr").allInnerTexts()).filter((line) => !line.includes("修改")),
      )
      .toEqual([]);
    await check(page, "audit-list");
    await row.getByRole("button", { name: /变更对比/ }).click();
    const changed = page.getByRole("dialog").getByRole("row").filter({ hasText: RENAMED });
    await changed.waitFor();
    expect(await changed.locator("del").innerText()).toBe(OF);
    await check(page, "audit-entry");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "清除筛选" }).first().click();
    expect(new URL(page.url()).search).not.toContain("who");
  });

  it("proves its chain to those who may", async () => {
    await visit(page, "/audit");
    const chain = page.getByRole("region", { name: "审计链状态" });
    await chain
      .getByText("无缺口", { exact: true })
      .or(chain.getByText("有缺口", { exact: true }))
      .waitFor();
    await chain.getByRole("button", { name: "验证全部" }).click();
    await chain.getByText(/审计链完整/).waitFor({ timeout: 60_000 });
    await check(page, "audit-chain");
  });

  it("is read on a phone", async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    await visit(page, "/audit");
    await check(page, "audit-phone");
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
  });

  it("keeps nobody out", () => expect(barriers).toEqual([]));
});
