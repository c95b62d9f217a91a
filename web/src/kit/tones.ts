export type Tone = "good" | "bad" | "warn" | "info" | "calm";

const TONES: [RegExp, Tone][] = [
  [
    /^(WON|ACTIVE|PAID|DONE|SIGNED|ACCEPTED|SOLVED|DELIVERED|COMPLETED|APPROVED|CONVERTED|CHECKED|ALLOCATED|GRANTED|CONFIRMED|VERIFIED|GREEN)/,
    "good",
  ],
  [
    /^(LOST|CANCELLED|VOID|REJECTED|FAILED|OVERDUE|TERMINATED|BREACHED|DISQUALIFIED|REVOKED|FROZEN|WITHDRAWN|EXPIRED|RED$)/,
    "bad",
  ],
  [
    /^(PENDING|WAITING|POOLED|PARTLY|PARTIALLY|IN_|RUNNING|CHECKING|REVERTING|SENT|ISSUED|SUBMITTED|PAUSED|AMBER)/,
    "warn",
  ],
  [/^(OPEN|NEW|QUALIFIED|CONTACTED|UPLOADED|LOGGED|PLANNED|ASSIGNED|PUBLISHED)/, "info"],
];

/** The colour beside the word of a state; the word alone says it all. */
export function toneOf(state: string): Tone {
  return TONES.find(([pattern]) => pattern.test(state))?.[1] ?? "calm";
}
