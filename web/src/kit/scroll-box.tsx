import type { ReactNode } from "react";

/** A wide table scrolls inside its own box, by keyboard too. */
export function ScrollBox({
  label,
  className = "",
  children,
}: {
  label: string;
  className?: string;
  children: ReactNode;
}) {
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a region that scrolls must take the focus
    <div role="region" aria-label={label} tabIndex={0} className={`lines-scroll ${className}`}>
      {children}
    </div>
  );
}
