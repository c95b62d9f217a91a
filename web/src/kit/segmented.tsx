import type { ReactNode } from "react";

interface Props<Key extends string> {
  label: string;
  value: Key;
  options: { key: Key; title: ReactNode }[];
  onChange: (key: Key) => void;
}

/** A few ways to look at the same thing, one of which holds. */
export function Segmented<Key extends string>({ label, value, options, onChange }: Props<Key>) {
  return (
    <span className="segmented" role="group" aria-label={label}>
      {options.map(({ key, title }) => (
        <button key={key} type="button" aria-pressed={value === key} onClick={() => onChange(key)}>
          {title}
        </button>
      ))}
    </span>
  );
}
