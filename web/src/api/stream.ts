import type { QueryClient } from "@tanstack/react-query";
import { splitName } from "./client";

export interface Change {
  name: string;
  action: string;
}

type Listener = (change: Change) => void;

const listeners = new Set<Listener>();
const QUIET_MS = 500;
const APART_MS = 2_000;
const PATIENCE_MS = 10_000;
const TOLD_MS = 3_000;
const LOST_MS = 45_000;
const AGAIN_MS = 10_000;

/** Called for every change that the caller may see, from this or any other window's connection. */
export function onChange(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/**
 * Follows the stream of visible changes and asks again for what changed, of each collection at most every two seconds.
 * One window of the browser holds the connection and tells the others.
 */
export function followStream(client: QueryClient, onState: (connected: boolean) => void): () => void {
  const channel = new BroadcastChannel("guanxi.stream");
  const stop = new AbortController();
  const waiting = new Map<string, Waiting>();

  const hear = (change: Change) => {
    listeners.forEach((listener) => listener(change));
    const { collection } = splitName(change.name);
    const of = waiting.get(collection) ?? { names: new Set(), asked: -APART_MS, timer: undefined };
    waiting.set(collection, of);
    of.names.add(change.name);
    if (of.timer !== undefined) return;
    const heard = performance.now();
    const ask = () => {
      // To ask anew throws away the answer that is on its way: where changes come fast, nothing new would ever be seen.
      if (isAwaited(client, collection, of.names) && performance.now() - heard < PATIENCE_MS) {
        of.timer = setTimeout(ask, QUIET_MS);
        return;
      }
      refresh(client, collection, of.names);
      waiting.set(collection, { names: new Set(), asked: performance.now(), timer: undefined });
    };
    of.timer = setTimeout(ask, Math.max(QUIET_MS, of.asked + APART_MS - heard));
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
    for (const { timer } of waiting.values()) clearTimeout(timer);
    channel.close();
  };
}

/** What has changed in a collection and has not been asked for yet. */
interface Waiting {
  names: Set<string>;
  asked: number;
  timer: ReturnType<typeof setTimeout> | undefined;
}

const queriesOf = (collection: string, names: ReadonlySet<string>) => [
  ...Array.from(names, (name) => ["record", name]),
  ["list", collection],
  ["aggregate", collection],
];

const isAwaited = (client: QueryClient, collection: string, names: ReadonlySet<string>) =>
  queriesOf(collection, names).some((queryKey) => client.isFetching({ queryKey }) > 0);

/** Lists that a person reads keep their rows in place: they show a notice instead (see the collection page). */
function refresh(client: QueryClient, collection: string, names: ReadonlySet<string>) {
  for (const queryKey of queriesOf(collection, names)) void client.invalidateQueries({ queryKey });
  // What fields there are: the services hear of it a moment after the change itself.
  if (collection === "customFields")
    setTimeout(() => void client.invalidateQueries({ queryKey: ["catalogue"] }), TOLD_MS);
}
