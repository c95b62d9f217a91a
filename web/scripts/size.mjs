// Fails the build when what the browser must load before the first screen grows over the budget.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMIT_KB = { initial: 250, chunk: 120 };
const manifest = JSON.parse(readFileSync("dist/.vite/manifest.json", "utf8"));
const kb = (file) => gzipSync(readFileSync(`dist/${file}`)).length / 1024;

const initial = new Set();
const follow = (key) => {
  if (initial.has(key)) return;
  initial.add(key);
  (manifest[key].imports ?? []).forEach(follow);
};
Object.keys(manifest)
  .filter((key) => manifest[key].isEntry)
  .forEach(follow);

const total = [...initial].reduce((sum, key) => sum + kb(manifest[key].file), 0);
const tooBig = Object.entries(manifest)
  .filter(
    ([key, chunk]) => !initial.has(key) && chunk.file.endsWith(".js") && kb(chunk.file) > LIMIT_KB.chunk,
  )
  .map(([key, chunk]) => `${key}: ${kb(chunk.file).toFixed(0)} KB`);

console.log(`initial script ${total.toFixed(0)} KB gzip (limit ${LIMIT_KB.initial})`);
if (total > LIMIT_KB.initial || tooBig.length > 0) {
  console.error(["over the budget", ...tooBig].join("\n"));
  process.exit(1);
}
