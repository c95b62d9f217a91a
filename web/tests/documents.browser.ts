import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, field, openTab, press, save, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const mark = Date.now().toString(36);
let context: BrowserContext;
let page: Page;
let reading: BrowserContext;
let reader: Page;

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE, "manager");
  reading = await open({ width: 390, height: 844 });
  reader = reading.pages()[0] ?? (await reading.newPage());
  await signIn(reader, BASE, "sales1");
});

afterAll(async () => {
  await context?.close();
  await reading?.close();
});

const text = (name: string, words: string) => ({
  name,
  mimeType: "text/plain",
  buffer: Buffer.from(words, "utf8"),
});

describe("documents", () => {
  let folder = "";
  it("lie in folders that an audience reads", async () => {
    await visit(page, "/documents");
    await page.getByRole("link", { name: "新建文件夹" }).first().click();
    await field(page, "名称").fill(`制度${mark}`);
    await page.getByLabel("全公司可见").check();
    folder = (await save(page)).replace(/^\//, "");
    await visit(page, `/documents?folder=${encodeURIComponent(folder)}`);
    const chosen = page.waitForEvent("filechooser");
    await page.getByRole("button", { name: "上传文件" }).click();
    await (await chosen).setFiles([text("差旅.txt", `员工出差须提前申请，海棠${mark}。`)]);
    await page.getByRole("link", { name: "差旅.txt" }).waitFor();
    await check(page, "documents");
  });

  it("are found by their text, on the phone too", async () => {
    await expect
      .poll(
        async () =>
          (
            (await api(reader, "GET", `/v1/files:search?q=${encodeURIComponent(`海棠${mark}`)}`))["hits"] as
              unknown[] | undefined
          )?.length,
        { timeout: 30_000 },
      )
      .toBe(1);
    await visit(reader, "/documents");
    await reader.getByRole("searchbox").fill(`海棠${mark}`);
    await reader.locator("mark").getByText(`海棠${mark}`).waitFor();
    await check(reader, "documents-found-phone");
  });

  it("have versions, and an earlier one comes back", async () => {
    await visit(page, `/documents?folder=${encodeURIComponent(folder)}`);
    await page.getByRole("link", { name: "差旅.txt" }).click();
    await openTab(page, "版本");
    const chosen = page.waitForEvent("filechooser");
    await page.getByRole("button", { name: "上传文件" }).click();
    await (await chosen).setFiles([text("差旅2.txt", "第二版")]);
    await page.getByRole("button", { name: "恢复此版" }).click();
    await page.getByRole("cell", { name: "恢复第 1 版" }).waitFor();
    await check(page, "document-versions");
  });

  it("are held, and then changed by nobody", async () => {
    await press(page, "保全", "已保全", async (dialog) => {
      await field(dialog, "原因").fill("诉讼需要保全");
    });
    await visit(page, `/documents?folder=${encodeURIComponent(folder)}`);
    await page.getByText("已保全").waitFor();
    await check(page, "document-held");
  });
});

describe("a team", () => {
  it("has a page, and who knows what is found", async () => {
    const me = await api(reader, "GET", "/session");
    const employee = String(me["employee"]);
    await api(reader, "POST", `/v1/${employee}:setSkills`, { skills: ["PRICING"] });
    await visit(reader, "/experts");
    await reader.getByRole("searchbox").fill("报价");
    await reader.locator(`a[href$="/${employee}"]`).first().waitFor();
    await check(reader, "experts-phone");
    const person = await api(reader, "GET", `/v1/${employee}`);
    await visit(page, `/${String(person["department"])}?tab=team`);
    await page.getByRole("heading", { name: /^成员/ }).waitFor();
    await check(page, "team");
  });

  it("is read in English on a phone, with its documents and who knows what", async () => {
    await reader.evaluate(() => localStorage.setItem("guanxi.language", "en"));
    await visit(reader, "/documents");
    await reader.getByRole("heading", { name: "Documents", exact: true }).waitFor();
    await check(reader, "documents-phone-en");
    await visit(reader, "/experts");
    await reader.getByRole("searchbox").fill("Pricing");
    await reader.locator(".inbox a").first().waitFor();
    await check(reader, "experts-phone-en");
    await reader.evaluate(() => localStorage.setItem("guanxi.language", "zh-CN"));
  });

  it("leaves nobody out", () => expect(barriers).toEqual([]));
});
