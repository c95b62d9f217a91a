import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, field, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const stamp = Date.now().toString(36);
const LIST = `老客户回访${stamp}`;
const WHO = `被叫${stamp}`;
const numbers = [1, 2].map((at) => `+86138${String(Date.now() + at).slice(-8)}`);

let context: BrowserContext;
let page: Page;
let me = "";
let list = "";

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE);
  me = String((await api(page, "GET", "/session"))["employee"]);
  const script = await api(page, "POST", "/v1/callScripts", {
    displayName: `回访话术${stamp}`,
    nodes: [
      {
        key: "need",
        text: "您好，想了解一下设备使用情况。",
        question: "近期有更新计划吗？",
        field: "need",
        branches: [{ answer: "有", next: "when" }, { answer: "没有" }],
      },
      { key: "when", text: "方便告知大概时间吗？", question: "什么时候？", field: "when" },
    ],
    faq: [{ question: "保修多久？", answer: "标准保修两年。" }],
  });
  await api(page, "POST", `/v1/${String(script["name"])}:activate`, {});
  const made = await api(page, "POST", "/v1/callLists", {
    displayName: LIST,
    script: script["name"],
    members: [{ employee: me }],
    numbers: numbers.map((number, at) => ({ number, displayName: `${WHO}${at + 1}` })),
  });
  list = String(made["name"]);
});

afterAll(() => context?.close());

const said = (event: string, more: Record<string, unknown> = {}) =>
  api(page, "POST", "/v1/calls:report", {
    providerCall: `ring-${stamp}`,
    event,
    time: new Date().toISOString(),
    fromNumber: numbers[0],
    toNumber: "8001",
    employee: me,
    ...more,
  });

describe("selling by telephone", () => {
  it("fills a list after saying whom it would take in", async () => {
    await visit(page, `/${list}`);
    const who = page.locator(".card").filter({ hasText: "名单对象" });
    await who.getByRole("button", { name: "预览" }).click();
    await who.getByText("生成后的结果").waitFor();
    expect(await who.getByRole("row").filter({ hasText: "加入名单" }).innerText()).toContain("2");
    await who.getByRole("button", { name: "生成名单" }).click();
    await who.getByText("生成结果：").waitFor();
    await check(page, "call-list");
    await page.getByRole("button", { name: "启动", exact: true }).click();
    await page.locator("main .title-line .tag").filter({ hasText: "进行中" }).waitFor();
  });

  it("gives the next one, and skips for a reason alone", async () => {
    await visit(page, `/call-desk?list=${encodeURIComponent(list)}`);
    await page.getByRole("button", { name: "下一个", exact: true }).click();
    await page.getByRole("heading", { name: WHO }).waitFor();
    expect(await page.locator(".call-number").getAttribute("href")).toMatch(/^tel:\+86138/);
    await check(page, "call-next");
    await page.getByRole("button", { name: "跳过" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("button", { name: "跳过" }).click();
    await dialog.locator(".field-error").waitFor();
    await field(dialog, "原因").fill("正在开会");
    await check(page, "call-skip");
    await dialog.getByRole("button", { name: "跳过" }).click();
    await dialog.waitFor({ state: "detached" });
    await page.getByRole("button", { name: "下一个", exact: true }).waitFor();
  });

  it("dials, or says when it may", async () => {
    await page.getByRole("button", { name: "下一个", exact: true }).click();
    await page.getByRole("heading", { name: WHO }).waitFor();
    await page.getByRole("button", { name: "拨号" }).click();
    // Nobody is called on a Sunday or at night: then the reason names the next time.
    const on = page.getByRole("region", { name: "当前通话" });
    const refused = page.getByRole("alert").filter({ hasText: /\d{2}:\d{2}/ });
    await on.or(refused).first().waitFor();
    await check(page, "call-dialled");
    if (await refused.isVisible()) {
      await page.getByRole("button", { name: "跳过" }).click();
      const dialog = page.getByRole("dialog");
      await field(dialog, "原因").fill("时间未到");
      await dialog.getByRole("button", { name: "跳过" }).click();
      await dialog.waitFor({ state: "detached" });
      return;
    }
    await wrapUp();
  });

  it("pops up who calls, leads through the script, and asks what came of it", async () => {
    await said("STARTED");
    await page.getByRole("heading", { name: "来电", exact: true }).waitFor();
    await said("ANSWERED");
    await page.locator(".call-split .tag").filter({ hasText: "通话中" }).waitFor();
    await said("ENDED", { cause: "NORMAL" });
    await page.locator(".call-split .tag").filter({ hasText: "待小结" }).waitFor();
    await check(page, "call-inbound");
    await page.getByRole("button", { name: /小结/ }).click();
    const dialog = page.getByRole("dialog");
    await choose(page, field(dialog, "结果"), "约定回电");
    await field(dialog, "小结").fill("下周再谈");
    await field(dialog, "回电时间").fill("2020-03-05 10:00");
    await page.keyboard.press("Enter");
    await dialog.getByRole("button", { name: /小结/ }).click();
    await dialog.getByRole("alert").waitFor();
    await check(page, "call-refused");
    expect(await field(dialog, "小结").inputValue()).toBe("下周再谈");
    await choose(page, field(dialog, "结果"), "已沟通");
    await dialog.getByRole("button", { name: /小结/ }).click();
    await dialog.waitFor({ state: "detached" });
    await page.getByRole("group", { name: "今日通话" }).getByText("已沟通").waitFor();
  });

  it("has a directory in which a part of a number finds who has it, on a list or called by one click", async () => {
    const phone = `+86137${String(Date.now()).slice(-8)}`;
    await api(page, "POST", "/v1/leads", {
      displayName: `簿中人${stamp}`,
      phones: [{ number: phone, primary: true }],
    });
    const directory = page.getByRole("region", { name: "电话簿" });
    const search = directory.getByRole("searchbox", { name: "按姓名、拼音首字母或号码查找" });
    // The directory hears of a lead a moment after it was made.
    await expect
      .poll(
        async () => {
          await search.fill("");
          await search.fill(phone.slice(-8));
          return directory
            .getByRole("row")
            .filter({ hasText: `簿中人${stamp}` })
            .waitFor({ timeout: 3_000 })
            .then(
              () => true,
              () => false,
            );
        },
        { timeout: 30_000 },
      )
      .toBe(true);
    const row = directory.getByRole("row").filter({ hasText: `簿中人${stamp}` });
    expect(await row.innerText()).toContain(phone.slice(-8));
    await row.getByRole("button", { name: /^拨打/ }).waitFor();
    await check(page, "call-directory");
    await row.getByRole("button", { name: "加入名单" }).click();
    await page.getByText("已加入名单").waitFor();
  });

  it("works on a phone, in English", async () => {
    await page.evaluate(() => localStorage.setItem("guanxi.language", "en"));
    await page.setViewportSize({ width: 390, height: 844 });
    await visit(page, "/call-desk");
    await page.getByRole("heading", { name: "Promised calls" }).waitFor();
    await check(page, "call-phone");
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
  });

  it("keeps nobody out", () => expect(barriers).toEqual([]));
});

/** The call that is on, by its script, to its outcome. */
async function wrapUp(): Promise<void> {
  await page.getByRole("button", { name: "有", exact: true }).click();
  await page.getByText("方便告知大概时间吗？").waitFor();
  await page.getByRole("button", { name: /小结/ }).click();
  const dialog = page.getByRole("dialog");
  await choose(page, field(dialog, "结果"), "已沟通");
  await dialog.getByRole("button", { name: /小结/ }).click();
  await dialog.waitFor({ state: "detached" });
}
