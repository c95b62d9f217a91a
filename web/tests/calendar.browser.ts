import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, barriers, BASE, check, field, pickDay, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const mark = Date.now().toString(36);
const SERIES = `部门例会${mark}`;
const ALONE = `外出拜访${mark}`;
const DAY_MS = 86_400_000;
// A Monday far ahead, another in each run, so that nothing else lies there.
const monday = Date.UTC(2027, 0, 4) + (Math.floor(Date.now() / 60_000) % 20) * 28 * DAY_MS;
const dayOf = (time: number) => new Date(time).toISOString().slice(0, 10);
const FIRST = dayOf(monday);
const SECOND = dayOf(monday + 7 * DAY_MS);

const START = "开始";
const END = "结束";

interface Meeting {
  name: string;
  start: string;
  recurrence?: string;
  overrides?: { occurrence: string; displayName?: string; start?: string; cancelled?: boolean }[];
  attendees?: { employee: string; response: string; comment?: string }[];
}

let context: BrowserContext;
let guests: BrowserContext;
let page: Page;
let guest: Page;
let series = "";
let later = "";

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  await signIn(page, BASE, "manager");
  guests = await open({ width: 390, height: 844 });
  guest = guests.pages()[0] ?? (await guests.newPage());
  await signIn(guest, BASE, "sales1");
  const { employee } = await api(guest, "GET", "/session");
  const made = await api(page, "POST", "/v1/calendarEvents", {
    displayName: SERIES,
    acceptConflicts: true,
    start: `${FIRST}T09:00`,
    end: `${FIRST}T10:00`,
    timeZone: "Asia/Shanghai",
    recurrence: "FREQ=WEEKLY;BYDAY=MO;COUNT=4",
    attendees: [{ employee }],
    rooms: [`会议室${mark}`],
  });
  series = String(made["name"]);
  await api(guest, "POST", "/v1/calendarEvents", {
    displayName: ALONE,
    acceptConflicts: true,
    start: `${FIRST}T14:00`,
    end: `${FIRST}T16:00`,
    timeZone: "Asia/Shanghai",
  });
});

afterAll(async () => {
  await context?.close();
  await guests?.close();
});

const inGrid = (text: string) => page.locator(".fc-event").filter({ hasText: text }).first();
const read = async () => (await api(page, "GET", `/v1/${series}`)) as unknown as Meeting;

describe("a calendar", () => {
  it("shows a date with who comes and its zone, and changes that date alone", async () => {
    await visit(page, `/calendar?date=${FIRST}`);
    await page.getByText("时区：Asia/Shanghai").waitFor();
    await inGrid(SERIES).click();
    const drawer = page.getByRole("dialog");
    await drawer.getByText("每 1 周").waitFor();
    await drawer.getByText("未回复").first().waitFor();
    await check(page, "calendar-date");
    await drawer.getByRole("button", { name: "编辑" }).click();
    const which = page.getByRole("dialog", { name: "编辑" });
    await which.getByText("仅此一次").waitFor();
    await check(page, "calendar-which");
    await which.getByRole("button", { name: "编辑" }).click();
    const form = page.getByRole("dialog", { name: "仅此一次" });
    await form.getByLabel("主题").fill(`${SERIES}·预算`);
    await pickDay(page, field(form, START), `${FIRST} 10:30`);
    await pickDay(page, field(form, END), `${FIRST} 11:30`);
    await check(page, "calendar-one");
    await form.getByRole("button", { name: "保存" }).click();
    await page.getByText("已修改").first().waitFor();
    await inGrid(`${SERIES}·预算`).waitFor();
    const { overrides, recurrence } = await read();
    expect(recurrence).toContain("COUNT=4");
    expect(overrides).toEqual([
      expect.objectContaining({ occurrence: `${FIRST}T09:00`, start: `${FIRST}T10:30` }),
    ]);
  });

  it("is drawn to another time with all that follow, by the mouse", async () => {
    await visit(page, `/calendar?date=${SECOND}`);
    const box = await inGrid(SERIES).boundingBox();
    const slot = await page.locator('.fc-timegrid-slot-lane[data-time="13:00:00"]').boundingBox();
    if (!box || !slot) throw new Error("The week does not stand.");
    await page.mouse.move(box.x + box.width / 2, box.y + 8);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width / 2, box.y + 40, { steps: 5 });
    await page.mouse.move(box.x + box.width / 2, slot.y + 8, { steps: 10 });
    await page.mouse.up();
    const which = page.getByRole("dialog", { name: "改期" });
    await which.getByText("此次及以后").click();
    await which.getByRole("button", { name: "改期" }).click();
    const clash = page.getByRole("dialog", { name: "时间有冲突" });
    const moved = page.getByText("已改期").first();
    await moved.or(clash).first().waitFor();
    if (await clash.isVisible()) await clash.getByRole("button", { name: "仍然改到这个时间" }).click();
    await moved.waitFor();
    await inGrid(SERIES).filter({ hasText: "13:00" }).waitFor();
    await check(page, "calendar-moved");
    expect((await read()).recurrence).not.toContain("COUNT=4");
    const found = await api(
      page,
      "GET",
      `/v1/calendarEvents?filter=${encodeURIComponent(`displayName = "${SERIES}"`)}&pageSize=10`,
    );
    const split = (found["calendarEvents"] as Meeting[]).find(({ name }) => name !== series);
    later = split?.name ?? "";
    expect(split?.start).toBe(`${SECOND}T13:00`);
  });

  it("says while one edits who is taken when, and offers times at which all are free", async () => {
    await visit(page, `/${series}/edit`);
    const busy = page.getByRole("region", { name: "忙闲情况" });
    await busy.getByRole("img", { name: /14:00–16:00/ }).waitFor();
    await busy.getByText(`会议室${mark}`).waitFor();
    await pickDay(page, field(page, START), `${FIRST} 14:30`);
    await pickDay(page, field(page, END), `${FIRST} 15:30`);
    await page.locator(".advice-warn").waitFor();
    await check(page, "calendar-free-busy");
    await page.getByRole("button", { name: /^选用/ }).first().click();
    await page.getByText("这个时间没有冲突。").waitFor();
  });

  it("shows the team below each other", async () => {
    await visit(page, `/calendar?view=team&date=${FIRST}`);
    const row = page.getByRole("row").filter({ hasText: ALONE });
    await row.getByText("14:00–16:00").waitFor();
    await check(page, "calendar-team");
  });

  it("is answered on a phone", async () => {
    await visit(guest, `/calendar?date=${FIRST}`);
    await check(guest, "calendar-phone-day");
    await guest
      .locator(".fc-event")
      .filter({ hasText: `${SERIES}·预算` })
      .first()
      .click();
    const drawer = guest.getByRole("dialog");
    await drawer.getByLabel("附言").fill("会准时到");
    await drawer.getByRole("button", { name: "参加", exact: true }).click();
    await guest.getByText("已回复").first().waitFor();
    await drawer.getByRole("button", { name: "参加", exact: true, pressed: true }).waitFor();
    await check(guest, "calendar-phone");
    expect(await guest.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    expect((await read()).attendees).toEqual([
      expect.objectContaining({ response: "ACCEPTED", comment: "会准时到" }),
    ]);
  });

  it("calls one date off and keeps the others", async () => {
    await visit(page, `/calendar?date=${SECOND}`);
    await inGrid(SERIES).click();
    await page.getByRole("dialog").getByRole("button", { name: "取消日程" }).click();
    const which = page.getByRole("dialog", { name: "取消日程" });
    await which.getByLabel("原因").fill("放假");
    await which.getByRole("button", { name: "取消日程" }).click();
    await page.getByText("已取消日程").first().waitFor();
    await inGrid(SERIES).waitFor({ state: "detached" });
    const { overrides } = (await api(page, "GET", `/v1/${later}`)) as unknown as Meeting;
    expect(overrides).toEqual([expect.objectContaining({ occurrence: `${SECOND}T13:00`, cancelled: true })]);
  });

  it("keeps nobody out", () => expect(barriers).toEqual([]));
});
