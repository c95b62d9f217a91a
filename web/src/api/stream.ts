import type { QueryClient } from "@tanstack/react-query";
import { splitName } from "./client";

export interface Change {
  name: string;
  action: string;
}

type Listener = (change: Change) => void;

const listeners = new Set<Listener>();
const QUIET_MS = 500;
const TOLD_MS = 3_000;
const LOST_MS = 45_000;
const AGAIN_MS = 10_000;

/** Called for every change that the caller may see, from this or any other window's connection. */
export function onChange(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/**
 * Follows the stream of visible changes and asks again for what changed, at most once per half second.
 * One window of the browser holds the connection and tells the others.
 */
export function followStream(client: QueryClient, onState: (connected: boolean) => void): () => void {
  const channel = new BroadcastChannel("guanxi.stream");
  const stop = new AbortController();
  const changed = new Map<string, Change>();
  let timer: ReturnType<typeof setTimeout> | undefined;

  const hear = (change: Change) => {
    listeners.forEach((listener) => listener(change));
    changed.set(change.name, change);
    timer ??= setTimeout(() => {
      timer = undefined;
      refresh(client, [...changed.values()]);
      changed.clear();
    }, QUIET_MS);
  };
  channel.onmessage = (event: MessageEvent<Change>) => hear(event.data);

  const connect = () =>
    new Promise<void>((resolve) => {
      if (stop.signal.aborted) return resolve();
      let source: EventSource;
      let lost: ReturnType<typeof setTimeout> | undefined;
      let again: ReturnType<typeof setTimeout> | undefined;
      const take = (event: MessageEvent<string>) => {
        const change = JSON.parse(event.data) as Change;
        hear(change);
        channel.postMessage(change);
      };
      const open = () => {
        source = new EventSource("/v1/stream");
        source.addEventListener("changed", take as EventListener);
        source.addEventListener("gone", take as EventListener);
        // Something may have been missed: read again what is shown.
        source.addEventListener("reset", () => void client.invalidateQueries({ type: "active" }));
        source.onopen = () => {
          clearTimeout(lost);
          lost = undefined;
          onState(true);
        };
        source.onerror = () => {
          lost ??= setTimeout(() => onState(false), LOST_MS);
          // A refused stream is not tried again by the browser.
          if (source.readyState === EventSource.CLOSED) again = setTimeout(open, AGAIN_MS);
        };
      };
      open();
      stop.signal.addEventListener("abort", () => {
        clearTimeout(lost);
        clearTimeout(again);
        source.close();
        resolve();
      });
    });

  // Locks exist on https and localhost only; elsewhere every window has its own connection.
  if ("locks" in navigator) {
    navigator.locks.request("guanxi.stream", { signal: stop.signal }, connect).catch(() => undefined);
  } else void connect();

  return () => {
    stop.abort();
    clearTimeout(timer);
    channel.close();
  };
}

/** Lists that a person reads keep their rows in place: they show a notice instead (see the collection page). */
function refresh(client: QueryClient, changes: Change[]) {
  const collections = new Set(changes.map((change) => splitName(change.name).collection));
  for (const change of changes) void client.invalidateQueries({ queryKey: ["record", change.name] });
  for (const collection of collections) {
    void client.invalidateQueries({ queryKey: ["list", collection] });
    void client.invalidateQueries({ queryKey: ["aggregate", collection] });
  }
  // What fields there are: the services hear of it a moment after the change itself.
  if (collections.has("customFields"))
    setTimeout(() => void client.invalidateQueries({ queryKey: ["catalogue"] }), TOLD_MS);
}
