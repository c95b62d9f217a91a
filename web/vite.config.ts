import react from "@vitejs/plugin-react";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const offset = Number(process.env["PORT_OFFSET"] ?? 0);
const gateway = `http://127.0.0.1:${8080 + offset}`;

export default defineConfig({
  plugins: [react()],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  server: {
    host: "127.0.0.1",
    port: 5173 + offset,
    strictPort: true,
    proxy: Object.fromEntries(["/v1", "/session", "/openapi.json", "/docs"].map((path) => [path, gateway])),
  },
  build: { target: "es2022", manifest: true, chunkSizeWarningLimit: 700 },
  test: { environment: "jsdom", include: ["src/**/*.test.{ts,tsx}"] },
});
