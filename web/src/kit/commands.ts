/** What any screen may ask of the shell. */
export type Command =
  | { kind: "create"; collection: string; values?: Record<string, unknown>; onSaved?: (name: string) => void }
  | { kind: "search" }
  | { kind: "shortcuts" };

const receivers = new Set<(command: Command) => void>();

export function send(command: Command): void {
  receivers.forEach((receiver) => receiver(command));
}

export function receive(receiver: (command: Command) => void): () => void {
  receivers.add(receiver);
  return () => receivers.delete(receiver);
}
