import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, press, visit, openTab } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const mark = Date.now().toString(36);
const STAYS = `留下${mark}有限公司`;
const GOES = `并入${mark}有限公司`;
// Eight services answer, one after the other, on a machine that has much else to do.
const PATIENCE = { timeout: 45_000 };

let context: BrowserContext;
let page: Page;
const made: Record<string, string> = {};

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE);
  for (const [displayName, industry] of [
    [STAYS, "制造"],
    [GOES, "零售"],
  ] as const) {
    const account = await api(page, "POST", "/v1/accounts", { displayName, kind: "COMPANY", industry });
    made[displayName] = String(account["name"]);
    await api(page, "POST", "/v1/contacts", { displayName: `联系人${mark}`, account: account["name"] });
  }
});

afterAll(() => context?.close());

const state = (text: string) =>
  page.locator("main .title-line .tag").filter({ hasText: text }).waitFor(PATIENCE);

describe("two customers that are one", () => {
  it("are chosen in the list and stand side by side", async () => {
    await visit(page, `/accounts?q=${encodeURIComponent(mark)}`);
    for (const name of [STAYS, GOES])
      await page.getByRole("row").filter({ hasText: name }).getByRole("checkbox").click();
    await page.getByRole("button", { name: "合并所选客户" }).click();
    await page.getByRole("heading", { level: 1 }).filter({ hasText: mark }).waitFor();
    await page.getByRole("radio", { name: `保留 ${STAYS}` }).check();
    await page.getByRole("radio", { name: `行业取自${GOES}` }).check();
    await check(page, "merge-choices");
    await page.getByRole("button", { name: "保存选择" }).click();
    await page.getByText("选择已保存").waitFor();
  });

  it("show what would move before anything does", async () => {
    await page.getByRole("button", { name: "预览", exact: true }).click();
    await openTab(page, "影响范围");
    await state("已预览");
    await page.getByRole("row").filter({ hasText: "联系人" }).waitFor();
    await check(page, "merge-preview");
    expect((await api(page, "GET", `/v1/${made[GOES]}`))["state"]).toBe("ACTIVE");
  });

  it("become one, and two again", async () => {
    await press(page, "合并", "已完成", async () => undefined);
    const merged = await api(page, "GET", `/v1/${made[STAYS]}`);
    expect(merged["industry"]).toBe("零售");
    await page.getByText("此次合并可在").waitFor();
    await check(page, "merge-done");
    await press(page, "撤销合并", "已撤销", async () => undefined);
    await check(page, "merge-undone");
    expect((await api(page, "GET", `/v1/${made[GOES]}`))["state"]).toBe("ACTIVE");
    expect((await api(page, "GET", `/v1/${made[STAYS]}`))["industry"]).toBe("制造");
  });

  it("are merged on a phone too", async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    await check(page, "merge-phone");
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
  });

  it("was kept out nowhere", () => expect(barriers).toEqual([]));
});
