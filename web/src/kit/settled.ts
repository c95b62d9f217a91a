import { useDeferredValue, useEffect, useState } from "react";

const SETTLE_MS = 200;

/** What is typed, once nothing more has come for a moment: one question, not one for each key. */
export function useSettled(value: string): string {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), SETTLE_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return useDeferredValue(settled);
}
