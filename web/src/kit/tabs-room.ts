/** What the button at the end of a row takes. */
const MORE_PX = 160;

/**
 * The tabs that stand in the row: all where there is room, else the open one, the first one and those that are opened most,
 * as many as fit, in their own order.
 */
export function fitting<Tab extends { key: string }>(
  tabs: Tab[],
  widths: number[],
  room: number,
  active: string,
  uses: Record<string, number>,
): Tab[] {
  const width = (tab: Tab) => widths[tabs.indexOf(tab)] ?? 0;
  if (tabs.reduce((sum, tab) => sum + width(tab), 0) <= room) return tabs;
  const rank = (tab: Tab) => (tab.key === active ? Infinity : (uses[tab.key] ?? 0));
  let left = room - MORE_PX;
  const chosen = tabs
    .toSorted((one, other) => rank(other) - rank(one))
    .filter((tab, index) => {
      if (index > 0 && width(tab) > left) return false;
      left -= width(tab);
      return true;
    });
  return tabs.filter((tab) => chosen.includes(tab));
}
