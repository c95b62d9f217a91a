import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open } from "./browser.ts";
import { api, BASE, visit } from "./pages.ts";
import { signIn } from "./sign-in.ts";

const mark = Date.now().toString(36);
/** What would tell of itself, could it act in any way. */
const HOSTILE = {
  picture: `<img src="/x" onerror="window.taken='picture'">`,
  drawing: `<svg onload="window.taken='drawing'"></svg>`,
  script: `</script><script>window.taken='script'</script>`,
  frame: `"><iframe srcdoc="<script>parent.taken='frame'</script>"></iframe>`,
  link: `[按这里](javascript:window.taken='markdown') <a href="javascript:window.taken='anchor'">按这里</a>`,
  address: `javascript:window.taken='address'//`,
  expression: `{{constructor.constructor("window.taken='expression'")()}}`,
};
const ALL = Object.values(HOSTILE).join("\n\n");
const TITLE = `${mark} ${HOSTILE.picture}`;

let context: BrowserContext;
let page: Page;
const pages: string[] = [];
const dialogs: string[] = [];

beforeAll(async () => {
  context = await open({ width: 1440, height: 900 });
  page = context.pages()[0] ?? (await context.newPage());
  page.on("dialog", (dialog) => {
    dialogs.push(`${page.url()}: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await signIn(page, BASE);
  const plant = async (collection: string, body: Record<string, unknown>) => {
    const made = String((await api(page, "POST", `/v1/${collection}`, body))["name"]);
    pages.push(`/${made}`);
    return made;
  };
  const key = `evil_${mark}`;
  const defined = await plant("customFields", {
    collection: "accounts",
    key,
    displayName: HOSTILE.drawing,
    englishName: HOSTILE.picture,
    kind: "TEXT",
  });
  await api(page, "POST", `/v1/${defined}:activate`, {});
  // What is in force is known everywhere within seconds.
  const first = { displayName: `${mark} ${HOSTILE.script}`, custom: { [key]: HOSTILE.frame } };
  for (let tries = 1; ; tries++) {
    try {
      await plant("accounts", first);
      break;
    } catch (error) {
      if (tries === 20) throw error;
      await page.waitForTimeout(1_000);
    }
  }
  const account = await plant("accounts", {
    displayName: TITLE,
    background: ALL,
    needs: HOSTILE.link,
    preferences: HOSTILE.expression,
    tags: [`<svg onload="window.taken=1"></svg>`],
    custom: { [key]: HOSTILE.picture },
  });
  pages.push(`/${account}?tab=comments`, `/${account}?tab=timeline`, `/${account}?tab=history`);
  await plant("contacts", { displayName: TITLE, account, title: HOSTILE.drawing, hobbies: ALL });
  await plant("tasks", { displayName: TITLE, description: ALL, links: [account] });
  await plant("notes", { displayName: TITLE, body: ALL, links: [account] });
  const post = await plant("posts", {
    displayName: TITLE,
    kind: "QUESTION",
    board: "QUESTIONS",
    everyone: true,
    body: ALL,
  });
  await api(page, "POST", `/v1/${post}:publish`, {});
  await plant("interactions", {
    account,
    channel: "CALL",
    direction: "OUTBOUND",
    summary: ALL,
    startTime: new Date().toISOString(),
  });
  pages.push(`/${await uploaded(`${mark}${HOSTILE.picture.replaceAll("/", "")}.svg`, HOSTILE.drawing)}`);
});

afterAll(() => context?.close());

/** A file whose name and content are hostile, as the client sends one. */
const uploaded = (name: string, content: string) =>
  page.evaluate(
    async ([named, text]) => {
      const session = (await (await fetch("/session")).json()) as { csrf: string };
      const answer = await fetch("/v1/files", {
        method: "POST",
        headers: {
          "Content-Type": "image/svg+xml",
          "X-CSRF": session.csrf,
          "X-File-Name": encodeURIComponent(named),
          "Idempotency-Key": crypto.randomUUID(),
        },
        body: text,
      });
      if (!answer.ok) throw new Error(await answer.text());
      return ((await answer.json()) as { name: string }).name;
    },
    [name, content] as const,
  );

/** What of it stands in the page as anything but text, before any rule of the browser's could stop it. */
const alive = () =>
  page.evaluate(() => {
    const found = [
      ...document.querySelectorAll("[onerror], [onload], iframe[srcdoc], img[src='/x'], main script"),
    ];
    const links = [...document.querySelectorAll("[href], [src], [action]")].filter((one) =>
      [...one.attributes].some((attribute) => /^\s*javascript:/i.test(attribute.value)),
    );
    const taken = (window as unknown as { taken?: string }).taken;
    return [...found, ...links]
      .map((one) => one.outerHTML.slice(0, 200))
      .concat(taken ? [`taken by ${taken}`] : []);
  });

describe("what people type is never run", () => {
  it("on the pages of the records that hold it", async () => {
    for (const path of pages) {
      await visit(page, path);
      expect(await alive(), path).toEqual([]);
      // Whoever follows a link that looks like one is not taken anywhere either.
      for (const link of await page.getByRole("link", { name: "按这里" }).all()) {
        await link.click({ noWaitAfter: true });
        expect(await alive(), path).toEqual([]);
      }
    }
    expect(pages.length).toBeGreaterThan(11);
  });

  it("is read as it was typed", async () => {
    const account = pages.find((path) => path.startsWith("/accounts/") && path.includes("?"))?.split("?")[0];
    await visit(page, account ?? "");
    expect(await page.locator("h1").first().innerText()).toContain(HOSTILE.picture);
  });

  it("in lists, boards and what was done lately", async () => {
    for (const path of [
      `/accounts?q=${mark}`,
      `/contacts?q=${mark}`,
      "/opportunities",
      "/tasks",
      "/notes",
      "/centre",
      "/auditEntries",
      "/customFields",
      "/",
    ]) {
      await visit(page, path);
      expect(await alive(), path).toEqual([]);
    }
  });

  it("and asks nobody anything", () => expect(dialogs).toEqual([]));
});

describe("a file", () => {
  it("that is a drawing with a script is saved, never opened in a page of ours", async () => {
    const file = pages.at(-1)?.slice(1) ?? "";
    const headers = await page.evaluate(async (name) => {
      const answer = await fetch(`/v1/${name}:download?disposition=inline`);
      return Object.fromEntries(answer.headers);
    }, file);
    expect(headers["content-disposition"]).toMatch(/^attachment/);
    expect(headers["content-security-policy"]).toContain("sandbox");
    expect(headers["x-content-type-options"]).toBe("nosniff");
  });
});
