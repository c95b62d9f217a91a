import { fileURLToPath } from "node:url";
import { defineConfig, mergeConfig } from "vite";
import base from "../vite.config.ts";
import { fixtureServer } from "./server.ts";

/** `npx vite --config dev/vite.config.ts`: the client against the fixture, without a platform. */
export default defineConfig(() => {
  const merged = mergeConfig(base, {
    root: fileURLToPath(new URL("..", import.meta.url)),
    plugins: [fixtureServer()],
  });
  return { ...merged, server: { ...merged.server, proxy: {} } };
});
