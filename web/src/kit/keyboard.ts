import { useEffect, useRef } from "react";

const SINGLE_LETTERS = "guanxi.single-letters";

/** Single-letter shortcuts can be switched off (WCAG 2.1.4). */
export const singleLetters = {
  on: () => localStorage.getItem(SINGLE_LETTERS) !== "off",
  set: (on: boolean) => localStorage.setItem(SINGLE_LETTERS, on ? "on" : "off"),
};

let composedAt = 0;
addEventListener("compositionend", (event) => (composedAt = event.timeStamp), true);

/** True while an input method composes, and in the frame after: that Enter belongs to it. */
export function isComposing(event: KeyboardEvent): boolean {
  return event.isComposing || event.keyCode === 229 || event.timeStamp - composedAt < 20;
}

export function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || target.matches("input, textarea, select, [role=combobox], [role=textbox]"))
  );
}

/** Keys outside inputs: `{ n: create }`, `{ "g h": goHome }` for two in a row. */
export function useShortcuts(keys: Record<string, () => void>, active = true): void {
  const latest = useRef(keys);
  useEffect(() => {
    latest.current = keys;
  });
  useEffect(() => {
    if (!active) return;
    let first = "";
    let timer: ReturnType<typeof setTimeout> | undefined;
    const press = (event: KeyboardEvent) => {
      if (isComposing(event) || isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey)
        return;
      if (event.key.length === 1 && !singleLetters.on()) return;
      if (document.querySelector("[aria-modal=true]")) return;
      const action = latest.current[first ? `${first} ${event.key}` : event.key];
      clearTimeout(timer);
      const starts = Object.keys(latest.current).some((key) => key.startsWith(`${event.key} `));
      first = !first && starts ? event.key : "";
      timer = setTimeout(() => (first = ""), 1_000);
      if (!action) return;
      event.preventDefault();
      action();
    };
    addEventListener("keydown", press);
    return () => {
      removeEventListener("keydown", press);
      clearTimeout(timer);
    };
  }, [active]);
}
