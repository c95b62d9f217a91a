import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

// As vaults number theirs; of a day of its own, so that no other story has it.
const NUMBER = `BK2099${String(Date.now() % 10_000_000).padStart(7, "0")}`;
const DAY_MS = 86_400_000;
const ago = (days: number) => new Date(Date.now() - days * DAY_MS).toISOString();

let context: BrowserContext;
let page: Page;

/** What the operator's agent tells of its vault. */
const report = (entries: Record<string, unknown>[]) =>
  api(page, "POST", "/v1/backups:report", {
    entries,
    keyId: "k1",
    location: "file:///vault",
    archiveTime: ago(0),
  });

const entry = {
  number: NUMBER,
  startTime: ago(3.01),
  finishTime: ago(3),
  size: "192000000",
  files: 12,
  auditSeq: 4711,
  keyId: "k1",
  digest: "ab".repeat(32),
  databases: [{ database: "sales", tables: 40, rows: 87_322 }],
};
const proof = { time: ago(2), restoredSeconds: 36, provenSeconds: 142, wrong: [] };

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE);
  await report([entry]);
});

afterAll(() => context?.close());

const row = () => page.getByRole("row").filter({ hasText: NUMBER });

describe("the backups", () => {
  it("stand with size, age and the missing proof, until a drill has proven one", async () => {
    await visit(page, "/backups");
    expect(await row().innerText()).toMatch(/已完成[\s\S]*192\s*MB[\s\S]*3天前[\s\S]*从未/);
    await check(page, "backups-unproven");
    await report([{ ...entry, proof }]);
    await visit(page, "/backups");
    expect(await row().innerText()).toMatch(/已验证[\s\S]*192\s*MB[\s\S]*3天前[\s\S]*前天|2天前/);
    await page.getByLabel("备份状态").locator(".tag-good").waitFor();
    await check(page, "backups");
  });

  it("are restored by no one person alone", async () => {
    await row().getByRole("link").first().click();
    await page.locator(".record").waitFor();
    const path = new URL(page.url()).pathname;
    await api(page, "POST", `/v1${path}:proposeRestore`, { reason: "硬盘损坏，需要恢复" });
    await expect(api(page, "POST", `/v1${path}:restore`, {})).rejects.toThrow("RESTORE_NOT_CONFIRMED");
    await visit(page, "/backups");
    await page.getByRole("status").filter({ hasText: NUMBER }).waitFor();
    await check(page, "backups-proposed");
    await api(page, "POST", `/v1${path}:withdrawRestore`, {});
  });

  it("are read in English too", async () => {
    await page.evaluate(() => localStorage.setItem("guanxi.language", "en"));
    await visit(page, "/backups");
    expect(await row().innerText()).toMatch(/Verified[\s\S]*192\s*MB[\s\S]*3 days ago[\s\S]*2 days ago/);
    await check(page, "backups-en");
    await page.evaluate(() => localStorage.setItem("guanxi.language", "zh-CN"));
  });

  it("come with the steps of a recovery on one sheet of A4", async () => {
    await visit(page, "/backups/recovery");
    await page.getByText("file:///vault").waitFor();
    await page.locator(".recovery").getByText(NUMBER).first().waitFor();
    await check(page, "recovery");
    await page.emulateMedia({ media: "print" });
    const sheet = await page.pdf({ format: "A4" });
    await page.emulateMedia({ media: null });
    expect(sheet.toString("latin1").match(/\/Type\s*\/Page\b/g)).toHaveLength(1);
  });

  it("keep nobody out", () => expect(barriers).toEqual([]));
});
