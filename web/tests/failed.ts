import { beforeEach } from "vitest";
import { contexts } from "./browser.ts";

/** Where a story failed, what the person saw. */
beforeEach(({ onTestFailed }) => {
  onTestFailed(async () => {
    for (const page of contexts.flatMap((context) => context.pages())) {
      const seen = await page.locator("body").innerText({ timeout: 1_000 }).catch(String);
      console.error(`${page.url()}\n${seen.slice(0, 1_000)}`);
    }
  });
});
