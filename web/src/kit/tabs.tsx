import { DownOutlined } from "@ant-design/icons";
import { useId, useLayoutEffect, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { useText } from "@/i18n";
import { MenuButton } from "./menu-button";
import { ErrorBoundary } from "./states";
import { useStored } from "./stored";
import { fitting } from "./tabs-room";

export interface TabSpec {
  key: string;
  label: string;
  content: ReactNode;
}

interface Props {
  tabs: TabSpec[];
  active: string;
  label: string;
  /** Which rows of tabs share what is opened most. */
  usedAs: string;
  onChange: (key: string) => void;
}

/**
 * A row of tabs that is never wider than its place: what does not fit stands in a menu at its end. Those that this person
 * opens most stay in the row, in the order that every record of the collection has.
 */
export function Tabs({ tabs, active, label, usedAs, onChange }: Props) {
  const { t } = useText();
  const id = useId();
  const list = useRef<HTMLDivElement>(null);
  const row = useRef<HTMLDivElement>(null);
  const [room, setRoom] = useState(0);
  const [measured, setMeasured] = useState<{ labels: string; widths: number[] }>();
  const [uses, setUses] = useStored<Record<string, number>>(`tabs.${usedAs}`, {});
  const [visited, setVisited] = useState([active]);
  const labels = tabs.map((tab) => tab.label).join("\n");
  const known = measured?.labels === labels ? measured.widths : undefined;
  const shown = known ? fitting(tabs, known, room, active, uses) : tabs;
  const rest = tabs.filter((tab) => !shown.includes(tab));

  useLayoutEffect(() => {
    const place = row.current;
    if (!place) return;
    const observer = new ResizeObserver(() => setRoom(place.clientWidth));
    observer.observe(place);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    if (known || !list.current || !row.current) return;
    const widths = [...list.current.children].map((child) => child.getBoundingClientRect().width);
    setRoom(row.current.clientWidth);
    setMeasured({ labels, widths });
  }, [known, labels]);

  if (!visited.includes(active)) setVisited([...visited, active]);

  const open = (key: string) => {
    setUses({ ...uses, [key]: (uses[key] ?? 0) + 1 });
    onChange(key);
  };
  const focus = (key: string) => document.getElementById(`${id}-${key}`)?.focus();
  const press = (event: KeyboardEvent) => {
    const at = shown.findIndex(({ key }) => key === active);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: shown.length - 1 }[event.key];
    const next = to === undefined ? undefined : shown[(to + shown.length) % shown.length];
    if (!next) return;
    event.preventDefault();
    onChange(next.key);
    focus(next.key);
  };

  return (
    <>
      <div className="tab-row" ref={row}>
        <div role="tablist" aria-label={label} ref={list}>
          {shown.map(({ key, label }) => (
            <button
              key={key}
              id={`${id}-${key}`}
              type="button"
              role="tab"
              aria-selected={key === active}
              aria-controls={`${id}-panel-${key}`}
              tabIndex={key === active ? 0 : -1}
              onClick={() => open(key)}
              onKeyDown={press}
            >
              {label}
            </button>
          ))}
        </div>
        {rest.length > 0 && (
          <MenuButton
            className="button tab-more"
            label={t("record.moreTabs", { count: rest.length })}
            items={rest.map(({ key, label }) => ({
              key,
              label,
              run: () => {
                open(key);
                requestAnimationFrame(() => focus(key));
              },
            }))}
          >
            {t("record.moreTabs", { count: rest.length })} <DownOutlined aria-hidden="true" />
          </MenuButton>
        )}
      </div>
      {tabs
        .filter(({ key }) => visited.includes(key))
        .map(({ key, content }) => (
          <div
            key={key}
            id={`${id}-panel-${key}`}
            role="tabpanel"
            aria-labelledby={`${id}-${key}`}
            hidden={key !== active}
          >
            <ErrorBoundary resetKey={key}>{content}</ErrorBoundary>
          </div>
        ))}
    </>
  );
}
