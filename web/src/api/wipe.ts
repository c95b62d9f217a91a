/** Why a browser gives up all that it holds of the platform, as the gateway says it. */
const WIPES = new Set(["EMPLOYEE_FROZEN", "SESSION_ENDED", "DEVICE_REVOKED"]);

export const wipes = (reason: string): boolean => WIPES.has(reason);

/** Drops drafts, punches that wait, keys and whatever else is kept on this device. */
export async function wipe(): Promise<void> {
  localStorage.clear();
  sessionStorage.clear();
  // Not every browser lists its databases; there the header of the answer empties them.
  const databases = "indexedDB" in globalThis ? ((await indexedDB.databases?.()) ?? []) : [];
  for (const { name } of databases) if (name) indexedDB.deleteDatabase(name);
  if ("caches" in globalThis) for (const key of await caches.keys()) await caches.delete(key);
}
