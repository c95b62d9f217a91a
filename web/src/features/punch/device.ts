import { create, type Json } from "@/api/client";

/** This browser's key for punches without a network. The private half cannot be taken out of it. */

const STORE = "keys";
const KEY_NAME = "device";
const WAITING = "guanxi.punches";
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256" };

interface Device {
  name: string;
  key: CryptoKey;
  owner: string;
}

export interface Punch extends Json {
  kind: string;
  deviceTime: string;
  lat: number;
  lon: number;
  uptimeMs: number;
}

function database(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("guanxi-punch", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error ?? new Error("indexedDB"));
  });
}

async function stored<T>(
  mode: IDBTransactionMode,
  work: (store: IDBObjectStore) => IDBRequest<T>,
): Promise<T> {
  const opened = await database();
  return new Promise((resolve, reject) => {
    const asked = work(opened.transaction(STORE, mode).objectStore(STORE));
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error ?? new Error("indexedDB"));
  });
}

/** Makes a key and tells the server its public half, once for a person on this device; needs the network. */
export async function deviceOf(owner: string, label: string): Promise<Device> {
  const known = (await stored("readonly", (store) => store.get(KEY_NAME))) as Device | undefined;
  if (known?.owner === owner) return known;
  const pair = await crypto.subtle.generateKey(ALGORITHM, false, ["sign", "verify"]);
  const spki = await crypto.subtle.exportKey("spki", pair.publicKey);
  const made = await create("attendanceDevices", { displayName: label, publicKey: base64(spki) });
  const device = { name: made.name, key: pair.privateKey, owner };
  await stored("readwrite", (store) => store.put(device, KEY_NAME));
  return device;
}

/** The punch with this device's signature, in the form that the server checks. */
export async function signed(punch: Punch, device: Device): Promise<Json> {
  const content = [
    punch.kind,
    "WGS84",
    punch.deviceTime,
    punch.lat.toFixed(6),
    punch.lon.toFixed(6),
    punch.uptimeMs.toFixed(0),
  ].join("\n");
  const signature = await crypto.subtle.sign(
    { name: "ECDSA", hash: "SHA-256" },
    device.key,
    new TextEncoder().encode(content),
  );
  return { ...punch, offline: true, device: device.name, signature: base64(signature) };
}

export const waiting = (): Json[] => JSON.parse(localStorage.getItem(WAITING) ?? "[]") as Json[];

export const keep = (punches: Json[]) => localStorage.setItem(WAITING, JSON.stringify(punches));

const base64 = (bytes: ArrayBuffer) => btoa(String.fromCharCode(...new Uint8Array(bytes)));

/** Milliseconds of a clock that nobody can set. It begins anew with the page: what is sent behind that is marked. */
export const uptime = () => Math.round(performance.now());
