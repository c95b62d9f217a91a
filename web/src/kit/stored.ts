import { useCallback, useState } from "react";

/** A personal setting of this device. */
export function useStored<T>(key: string, initial: T): [T, (value: T) => void] {
  const place = `guanxi.${key}`;
  const [value, setValue] = useState<T>(() => read(place, initial));
  const store = useCallback(
    (next: T) => {
      localStorage.setItem(place, JSON.stringify(next));
      setValue(next);
    },
    [place],
  );
  return [value, store];
}

function read<T>(place: string, initial: T): T {
  const text = localStorage.getItem(place);
  if (text === null) return initial;
  try {
    return JSON.parse(text) as T;
  } catch {
    return initial;
  }
}
