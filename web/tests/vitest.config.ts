import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

/** Stories in a real browser against a running platform: `CRM_URL=http://127.0.0.1:8080 npm run test:browser`. */
export default defineConfig({
  test: {
    root: fileURLToPath(new URL(".", import.meta.url)),
    include: ["**/*.browser.ts"],
    setupFiles: ["failed.ts"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    fileParallelism: false,
  },
});
