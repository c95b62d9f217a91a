import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, choose, field, settled, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const stamp = Date.now().toString(36);
const PATIENCE = { timeout: 30_000 };
/** What an administrator adds to contacts: the keys of this run, so that runs do not meet. */
const key = (name: string) => `${name}_${stamp}`;
const FIELDS: Record<string, unknown>[] = [
  {
    key: key("gift"),
    displayName: "礼遇",
    englishName: "Treat",
    kind: "CHOICE",
    choices: [
      { key: "GIFT", label: { zh: "赠品", en: "Gift" } },
      { key: "TRIP", label: { zh: "参观", en: "Visit" } },
    ],
  },
  {
    key: key("people"),
    displayName: "随行人数",
    englishName: "Party",
    kind: "NUMBER",
    minValue: "1",
    maxValue: "9",
  },
  {
    key: key("badge"),
    displayName: "门禁号",
    englishName: "Badge",
    kind: "TEXT",
    pattern: "[A-Z]{2}[0-9]{4}",
  },
  {
    key: key("city"),
    displayName: "参观城市",
    englishName: "City to visit",
    kind: "TEXT",
    required: true,
    visibleIf: { field: `custom.${key("gift")}`, values: ["TRIP"] },
  },
  { key: key("site"), displayName: "个人网站", englishName: "Site", kind: "URL" },
  { key: key("guide"), displayName: "向导", englishName: "Guide", kind: "EMPLOYEE" },
  { key: key("papers"), displayName: "附件资料", englishName: "Papers", kind: "FILES" },
  { key: key("share"), displayName: "话语权", englishName: "Say", kind: "PERCENT" },
  {
    key: key("cost"),
    displayName: "招待预算",
    englishName: "Hospitality",
    kind: "FORMULA",
    formula: `IF(custom.${key("gift")} = "TRIP", 2, 1) * custom.${key("people")} * 150.5`,
  },
  { key: key("quiet"), displayName: "接口专用", englishName: "For programs", kind: "TEXT" },
];
const made: string[] = [];
let admin: BrowserContext;
let office: Page;
let context: BrowserContext;
let page: Page;
let contact = "";
let guide = "";

beforeAll(async () => {
  admin = await open({ width: 1440, height: 900 });
  office = admin.pages()[0] ?? (await admin.newPage());
  await signIn(office, BASE);
  for (const one of FIELDS) {
    const body = { collection: "contacts", ...one };
    const { name } = await api(office, "POST", "/v1/customFields", body);
    made.push(String(name));
    await api(office, "POST", `/v1/${String(name)}:activate`, {});
  }
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE, "sales1");
  const body = { displayName: `字段客户${stamp}`, kind: "COMPANY" };
  const account = await api(page, "POST", "/v1/accounts", body);
  const person = { displayName: `字段联系人${stamp}`, account: account["name"] };
  contact = String((await api(page, "POST", "/v1/contacts", person))["name"]);
});

afterAll(async () => {
  for (const name of made) await api(office, "POST", `/v1/${name}:retire`, {});
  await admin?.close();
  await context?.close();
});

describe("fields that an administrator has added", () => {
  it("are hidden by an action of their own", async () => {
    await visit(office, `/${made.at(-1)}`);
    await check(office, "own-field");
    await office.getByRole("button", { name: "更多" }).click();
    await office.getByRole("menuitem", { name: "隐藏" }).click();
    const dialog = office.getByRole("dialog");
    await dialog.or(office.getByText("已隐藏")).first().waitFor();
    if (await dialog.isVisible()) await dialog.getByRole("button", { name: "隐藏" }).click();
    await office.getByText("已隐藏").first().waitFor();
  });

  it("are defined in a form that asks for what their kind needs, and says what is wrong with a formula", async () => {
    await visit(office, "/customFields/new");
    await choose(office, field(office, "对象"), "联系人", "联系人");
    await field(office, "字段代码").fill(key("per_head"));
    await field(office, "字段名称").fill("人均预算");
    expect(await field(office, "公式").count()).toBe(0);
    await choose(office, field(office, "类型"), "公式", "公式");
    await field(office, "公式").fill(`custom.${key("nothing")} / 2`);
    expect(await field(office, "选项").count()).toBe(0);
    await office.getByRole("button", { name: "保存", exact: true }).click();
    await office.getByText(`不能使用字段 custom.${key("nothing")}`).waitFor();
    await check(office, "own-field-formula");
    await field(office, "公式").fill(`custom.${key("cost")} / custom.${key("people")}`);
    await office.getByRole("button", { name: "保存", exact: true }).click();
    await office.waitForURL((url) => !url.pathname.endsWith("/new"));
    await office.getByText("人均预算").first().waitFor();
    made.unshift(new URL(office.url()).pathname.slice(1));
    await api(office, "POST", `/v1/${made[0]}:activate`, {});
  });

  it("are asked for only beside what makes them sensible, and say what is wrong where it is", async () => {
    await expect
      .poll(async () => {
        await visit(page, `/${contact}/edit`);
        const quiet = await page.getByLabel("接口专用").count();
        return (await field(page, "礼遇").count()) === 1 && quiet === 0;
      }, PATIENCE)
      .toBe(true);
    expect(await field(page, "参观城市").count()).toBe(0);
    expect(await field(page, "招待预算").count()).toBe(0);
    await choose(page, field(page, "礼遇"), "参观");
    await field(page, "参观城市").waitFor();
    await field(page, "随行人数").fill("12");
    await field(page, "门禁号").fill("ab12");
    await field(page, "个人网站").fill("javascript:alert(1)");
    await check(page, "own-fields-form");
    await page.getByRole("button", { name: "保存", exact: true }).click();
    await page.getByRole("alert").first().waitFor();
    await field(page, "参观城市").fill("三亚");
    await page.getByRole("button", { name: "保存", exact: true }).click();
    await page.locator(".field-error").filter({ hasText: "不能大于 9" }).waitFor();
    expect(await page.locator(".field-error").allInnerTexts()).toHaveLength(3);
    await check(page, "own-fields-wrong");
    await field(page, "随行人数").fill("3");
    await field(page, "门禁号").fill("AB1234");
    await field(page, "个人网站").fill("https://example.com/me");
    await field(page, "话语权").fill("12.5");
    const { employees } = await api(page, "GET", "/v1/employees?pageSize=1");
    guide = (employees as { displayName: string }[])[0]?.displayName ?? "";
    await choose(page, field(page, "向导"), guide, guide);
    const papers = ["甲.txt", "乙.txt"].map((name) => ({
      name: `${stamp}${name}`,
      mimeType: "text/plain",
      buffer: Buffer.from(name),
    }));
    await page.locator(".input-files input[type=file]").setInputFiles(papers);
    await page.locator(".input-files").getByText(`${stamp}乙.txt`).waitFor();
    await page.getByRole("button", { name: "保存", exact: true }).click();
    await page.waitForURL((url) => !url.pathname.endsWith("/edit"));
    await settled(page);
  });

  it("are read as what they are, in both languages", async () => {
    await visit(page, `/${contact}`);
    const site = page.getByRole("link", { name: "https://example.com/me" });
    expect(await site.getAttribute("rel")).toContain("noreferrer");
    expect(await page.getByText("12.5 %").count()).toBe(1);
    expect(await page.getByText("903", { exact: true }).count()).toBe(1);
    expect(await page.getByText("301", { exact: true }).count()).toBe(1);
    for (const name of [guide, `${stamp}甲.txt`, `${stamp}乙.txt`])
      await page.getByRole("link", { name, exact: true }).first().waitFor();
    await check(page, "own-fields-read");
    await page.evaluate(() => localStorage.setItem("guanxi.language", "en"));
    await visit(page, `/${contact}/edit`);
    expect(await field(page, "City to visit").inputValue()).toBe("三亚");
    await choose(page, field(page, "Treat"), "Gift");
    // What is there stays to be seen, even where it would not be asked for.
    expect(await field(page, "City to visit").count()).toBe(1);
    await field(page, "City to visit").fill("");
    await field(page, "City to visit").waitFor({ state: "detached" });
    await check(page, "own-fields-english");
  });

  it("keeps nobody out", () => expect(barriers).toEqual([]));
});
