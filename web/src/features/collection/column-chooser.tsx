import { HolderOutlined } from "@ant-design/icons";
import {
  DndContext,
  KeyboardSensor,
  PointerSensor,
  closestCenter,
  useSensor,
  useSensors,
  type DragEndEvent,
} from "@dnd-kit/core";
import {
  SortableContext,
  arrayMove,
  sortableKeyboardCoordinates,
  useSortable,
  verticalListSortingStrategy,
} from "@dnd-kit/sortable";
import { CSS } from "@dnd-kit/utilities";
import { Checkbox, Drawer } from "antd";
import { useState } from "react";
import type { Field, Resource } from "@/api/catalogue";
import { useText } from "@/i18n";
import { defaultColumns, possibleColumns } from "@/kit/columns";

interface Props {
  resource: Resource;
  columns: Field[];
  onApply: (columns: string[]) => void;
  onClose: () => void;
}

/** Which columns in which order; dragged by mouse, touch or keyboard. */
export function ColumnChooser({ resource, columns, onApply, onClose }: Props) {
  const { t } = useText();
  const [chosen, setChosen] = useState(columns.map((column) => column.name));
  const possible = possibleColumns(resource);
  const ordered = [
    ...chosen.flatMap((name) => possible.find((field) => field.name === name) ?? []),
    ...possible.filter((field) => !chosen.includes(field.name)),
  ];
  const sensors = useSensors(
    useSensor(PointerSensor, { activationConstraint: { distance: 4 } }),
    useSensor(KeyboardSensor, { coordinateGetter: sortableKeyboardCoordinates }),
  );
  const drop = ({ active, over }: DragEndEvent) => {
    if (!over) return;
    const [from, to] = [chosen.indexOf(String(active.id)), chosen.indexOf(String(over.id))];
    if (from >= 0 && to >= 0) setChosen(arrayMove(chosen, from, to));
  };
  return (
    <Drawer
      open
      size={400}
      title={t("list.columns")}
      onClose={onClose}
      footer={
        <div className="row">
          <button
            type="button"
            className="button button-primary"
            disabled={chosen.length === 0}
            onClick={() => {
              onApply(chosen);
              onClose();
            }}
          >
            {t("action.apply")}
          </button>
          <button
            type="button"
            className="button"
            onClick={() => setChosen(defaultColumns(resource).map((field) => field.name))}
          >
            {t("action.reset")}
          </button>
        </div>
      }
    >
      <DndContext sensors={sensors} collisionDetection={closestCenter} onDragEnd={drop}>
        <SortableContext items={ordered.map((field) => field.name)} strategy={verticalListSortingStrategy}>
          <ul className="chooser">
            {ordered.map((field) => (
              <Column
                key={field.name}
                field={field}
                checked={chosen.includes(field.name)}
                onToggle={() =>
                  setChosen(
                    chosen.includes(field.name)
                      ? chosen.filter((name) => name !== field.name)
                      : [...chosen, field.name],
                  )
                }
              />
            ))}
          </ul>
        </SortableContext>
      </DndContext>
    </Drawer>
  );
}

function Column({ field, checked, onToggle }: { field: Field; checked: boolean; onToggle: () => void }) {
  const { t, label } = useText();
  const { attributes, listeners, setNodeRef, transform, transition } = useSortable({
    id: field.name,
    disabled: !checked,
  });
  return (
    <li ref={setNodeRef} style={{ transform: CSS.Translate.toString(transform), transition }}>
      <Checkbox checked={checked} onChange={onToggle}>
        {label(field.label)}
      </Checkbox>
      {checked && (
        <button
          type="button"
          className="icon-button"
          aria-label={t("list.moveColumn", { what: label(field.label) })}
          {...attributes}
          {...listeners}
        >
          <HolderOutlined />
        </button>
      )}
    </li>
  );
}
