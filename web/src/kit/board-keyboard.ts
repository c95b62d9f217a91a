import type { KeyboardCoordinateGetter } from "@dnd-kit/core";

/** Left and right carry a lifted card to the middle of the neighbouring column. */
export const columnKeyboard: KeyboardCoordinateGetter = (event, { context, currentCoordinates }) => {
  const step = event.code === "ArrowRight" ? 1 : event.code === "ArrowLeft" ? -1 : 0;
  const card = context.collisionRect;
  if (step === 0 || !card) return undefined;
  event.preventDefault();
  const columns = [...context.droppableRects.values()].toSorted((a, b) => a.left - b.left);
  const middle = card.left + card.width / 2;
  const here = columns.findIndex((column) => middle >= column.left && middle <= column.right);
  const target = columns[Math.max(0, Math.min(columns.length - 1, here + step))];
  if (!target) return undefined;
  return {
    x: target.left + (target.width - card.width) / 2,
    y: Math.max(currentCoordinates.y, target.top + 60),
  };
};
