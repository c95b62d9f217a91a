import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, press, visit, openTab } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const mark = Date.now().toString(36);
const NAMED = `划区客户${mark}`;

let context: BrowserContext;
let page: Page;
let path = "";

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE);
  const account = await api(page, "POST", "/v1/accounts", { displayName: NAMED, kind: "COMPANY" });
  const filter = encodeURIComponent('displayName = "肖一凡"');
  const found = await api(page, "GET", `/v1/employees?filter=${filter}`);
  const [person] = found["employees"] as { name: string }[];
  const made = await api(page, "POST", "/v1/territoryPlans", {
    displayName: `新划分${mark}`,
    effectiveTime: new Date(Date.now() + 30 * 86_400_000).toISOString(),
    tree: [
      { code: `all-${mark}`, displayName: "全国", fallback: true },
      {
        code: `key-${mark}`,
        displayName: "指定客户",
        parent: `all-${mark}`,
        criteria: { namedAccounts: [account["name"]], divisions: ["330000"] },
        members: [{ employee: person?.name, role: "OWNER" }],
      },
    ],
  });
  path = `/${String(made["name"])}`;
});

afterAll(() => context?.close());

describe("a new cut of the market", () => {
  it("is drawn as a tree, and says what it would change before anything changes", async () => {
    await visit(page, path);
    const cut = page.getByRole("region", { name: "划分方案" });
    await cut.getByRole("row").filter({ hasText: "指定客户" }).getByText(NAMED).waitFor();
    await cut.getByText("行政区 330000").waitFor();
    await check(page, "territory-cut");
    await press(page, "预览", "已预览");
    await openTab(page, "影响预览");
    const moved = page.locator(".figure").filter({ hasText: "更换负责人" }).locator("strong");
    expect(Number(await moved.innerText())).toBeGreaterThan(0);
    await page.getByRole("heading", { name: "移交流向" }).waitFor();
    await check(page, "territory-preview");
    await openTab(page, "逐个客户");
    const row = page.getByRole("row").filter({ hasText: NAMED });
    await row.getByText("肖一凡").waitFor();
    await row.getByText("指定客户").first().waitFor();
    await check(page, "territory-moves");
  });

  it("is read on a phone", async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    await visit(page, `${path}?tab=preview`);
    await check(page, "territory-phone");
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
  });

  it("keeps nobody out", () => expect(barriers).toEqual([]));
});
