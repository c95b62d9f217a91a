import { useId, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { flushSync } from "react-dom";

export interface MenuItem {
  key: string;
  label: string;
  danger?: boolean;
  /** A line above it. */
  apart?: boolean;
  run: () => void;
}

interface Props {
  items: MenuItem[];
  className: string;
  label?: string;
  children: ReactNode;
}

const GAP_PX = 6;
const EDGE_PX = 8;

/** A button that opens a menu: arrows move, Escape and a click elsewhere close, the focus comes back. */
export function MenuButton({ items, className, label, children }: Props) {
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const menu = useRef<HTMLDivElement>(null);
  const [open, setOpen] = useState(false);

  const place = () => {
    // Lists have many of these: the entries come when somebody asks for them.
    flushSync(() => setOpen(true));
    const from = button.current?.getBoundingClientRect();
    const panel = menu.current;
    if (!from || !panel) return;
    panel.showPopover();
    const size = panel.getBoundingClientRect();
    const below = from.bottom + GAP_PX + size.height < innerHeight - EDGE_PX;
    panel.style.top = `${below ? from.bottom + GAP_PX : Math.max(EDGE_PX, from.top - GAP_PX - size.height)}px`;
    panel.style.left = `${Math.max(EDGE_PX, Math.min(from.left, innerWidth - size.width - EDGE_PX))}px`;
    panel.querySelector<HTMLElement>("[role=menuitem]")?.focus();
  };

  const press = (event: KeyboardEvent) => {
    const entries = [...(menu.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
    const at = entries.indexOf(document.activeElement as HTMLElement);
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (event.key === "Tab") menu.current?.hidePopover();
    if (step === 0) return;
    event.preventDefault();
    entries[(at + step + entries.length) % entries.length]?.focus();
  };

  return (
    <>
      <button
        ref={button}
        type="button"
        className={className}
        aria-label={label}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-controls={id}
        onPointerDown={(event) => event.stopPropagation()}
        onClick={place}
      >
        {children}
      </button>
      <div
        ref={menu}
        id={id}
        popover="auto"
        role="menu"
        tabIndex={-1}
        className="menu"
        onToggle={(event) => setOpen(event.newState === "open")}
        onKeyDown={press}
        onPointerDown={(event) => event.stopPropagation()}
      >
        {open &&
          items.map((item) => (
            <button
              key={item.key}
              type="button"
              role="menuitem"
              tabIndex={-1}
              className={`${item.danger ? "menu-danger" : ""} ${item.apart ? "menu-apart" : ""}`}
              onClick={() => {
                menu.current?.hidePopover();
                item.run();
              }}
            >
              {item.label}
            </button>
          ))}
      </div>
    </>
  );
}
