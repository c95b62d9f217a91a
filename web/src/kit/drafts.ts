import type { Json } from "@/api/client";

export interface Draft {
  values: Json;
  /** The record as it was when typing began, for the merge. */
  base: Json;
  time: string;
}

const place = (person: string, subject: string) => `guanxi.draft.${person}.${subject}`;

/** Drafts stay on the device, per person and record, until saved or discarded. */
export function readDraft(person: string, subject: string): Draft | null {
  const text = localStorage.getItem(place(person, subject));
  if (!text) return null;
  try {
    return JSON.parse(text) as Draft;
  } catch {
    return null;
  }
}

export function writeDraft(person: string, subject: string, draft: Draft): void {
  localStorage.setItem(place(person, subject), JSON.stringify(draft));
}

export function dropDraft(person: string, subject: string): void {
  localStorage.removeItem(place(person, subject));
}
