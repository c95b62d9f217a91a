import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BrowserContext, Page } from "playwright-core";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, settled, visit } from "./pages.ts";

const mark = Date.now().toString(36);
const SHANGHAI = { latitude: 31.2304, longitude: 121.4737, accuracy: 20 };
let context: BrowserContext;
let page: Page;

beforeAll(async () => {
  context = await open({ width: 390, height: 844 });
  await context.grantPermissions(["geolocation"], { origin: new URL(BASE).origin });
  await context.setGeolocation(SHANGHAI);
  page = context.pages()[0] ?? (await context.newPage());
  await page.addInitScript(() => localStorage.setItem("guanxi.language", "zh-CN"));
  await page.goto(BASE);
  await page.getByRole("link", { name: "登录", exact: true }).click();
  await page.locator('button[value="admin"]').click();
  await page.getByRole("heading", { level: 1 }).waitFor();
});

afterAll(() => context?.close());

describe("a day on the phone", () => {
  it("shows what is to do today, and ends it with one tap", async () => {
    const title = `回访${mark}`;
    const late = new Date(Date.now() - 60_000).toISOString();
    await api(page, "POST", "/v1/tasks", { displayName: title, dueTime: late });
    await visit(page, "/my-day");
    const row = page.locator(".tile-row").filter({ hasText: title });
    await row.waitFor();
    await check(page, "my-day");
    await row.getByRole("button", { name: `完成“${title}”` }).click();
    await row.waitFor({ state: "detached" });
  });

  it("punches with a place, and without a network signs, keeps and sends later", async () => {
    await visit(page, "/punch");
    await page.getByRole("button", { name: "外勤打卡" }).click();
    const rows = page.locator(".tile").filter({ hasText: "我的打卡" }).locator(".tile-row");
    await rows.first().waitFor();
    await check(page, "punch");
    await context.setOffline(true);
    await page.getByRole("button", { name: "外勤打卡" }).click();
    await page.getByRole("status").filter({ hasText: "1 条打卡待补传" }).waitFor();
    await context.setOffline(false);
    await page.getByRole("status").filter({ hasText: "待补传" }).waitFor({ state: "detached" });
    await expect.poll(() => rows.count(), { timeout: 30_000 }).toBe(2);
    const sent = (await api(page, "GET", "/v1/attendance?filter=offline%20%3D%20true")) as {
      attendance: { verdict: string; remark?: string }[];
    };
    // The key is younger than a minute, and older than the punch that it has signed.
    expect(sent.attendance[0]?.verdict).toBe("NORMAL");
  });

  it("puts a notice off and says how it wants to be told", async () => {
    const moment = new Date(Date.now() - 1_000).toISOString();
    await api(page, "POST", "/v1/notes", { displayName: `买花${mark}`, remindTime: moment });
    await expect
      .poll(
        async () => {
          await visit(page, "/notifications");
          return page
            .locator(".inbox li")
            .filter({ hasText: `买花${mark}` })
            .count();
        },
        { timeout: 60_000, interval: 3_000 },
      )
      .toBe(1);
    await check(page, "notifications");
    const notice = page.locator(".inbox li").filter({ hasText: `买花${mark}` });
    await notice.getByRole("button", { name: /更多操作/ }).click();
    await page.getByRole("menuitem", { name: "一小时后提醒" }).click();
    await notice.waitFor({ state: "detached" });
    await page.getByRole("button", { name: "已推迟" }).click();
    await notice.waitFor();
    await page.getByRole("button", { name: "通知设置" }).click();
    await page.getByLabel("开始").fill("22:00");
    await page.getByLabel("结束").fill("07:00");
    await check(page, "notification-preferences");
    await page.getByRole("button", { name: "保存" }).click();
    await page.getByRole("dialog").waitFor({ state: "detached" });
  }, 150_000);

  it("never scrolls sideways", async () => {
    for (const path of ["/my-day", "/punch", "/notifications"]) {
      await visit(page, path);
      await settled(page);
      expect(await page.evaluate(() => document.documentElement.scrollWidth), path).toBeLessThanOrEqual(390);
    }
  });

  it("was kept out nowhere", () => expect(barriers).toEqual([]));
});
