import type { ReactNode } from "react";

interface Props {
  label: string;
  children: ReactNode;
  /** The exact value, where a short one is shown. */
  exact?: string;
  note?: ReactNode;
}

/** One number that counts, with its name above. */
export function Figure({ label, children, exact, note }: Props) {
  return (
    <div className="card figure">
      <span className="faint">{label}</span>
      <strong title={exact}>{children}</strong>
      {note}
    </div>
  );
}
