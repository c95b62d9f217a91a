import {
  DndContext,
  KeyboardSensor,
  PointerSensor,
  useDraggable,
  useDroppable,
  useSensor,
  useSensors,
  type DragEndEvent,
} from "@dnd-kit/core";
import { DownOutlined, HolderOutlined, RightOutlined } from "@ant-design/icons";
import { useQuery } from "@tanstack/react-query";
import { Modal } from "antd";
import { useState, type KeyboardEvent } from "react";
import { Link } from "react-router";
import type { Resource } from "@/api/catalogue";
import { act, list, update, type RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import type { Tree as TreeSpec } from "@/resources";
import { fieldsNamed } from "./columns";
import { FieldValue } from "./field-value";
import { isBlank } from "./patch";
import { titleOf, useSession } from "./queries";
import { Empty, ErrorNote, Refused, Skeleton } from "./states";
import { tell } from "./toasts";
import { messageOf } from "./verbs";

const PAGE = 200;
const AT_MOST = 5_000;

async function everyNode(collection: string, filter: string, orderBy: string, signal: AbortSignal) {
  const found: RecordJson[] = [];
  let pageToken = "";
  do {
    const page = await list(collection, { filter, orderBy, pageSize: PAGE, pageToken }, signal);
    found.push(...page.records);
    pageToken = page.nextPageToken;
  } while (pageToken && found.length < AT_MOST);
  return found;
}

interface Props {
  resource: Resource;
  tree: TreeSpec;
  filter: string;
}

/** Records below one another; a drag says what it would move before it does. */
export function Tree({ resource, tree, filter }: Props) {
  const { t, language, plural } = useText();
  const session = useSession();
  const nodes = useQuery({
    queryKey: ["list", resource.collection, "tree", filter],
    queryFn: ({ signal }) => everyNode(resource.collection, filter, tree.orderBy, signal),
  });
  const [closed, setClosed] = useState<ReadonlySet<string>>(new Set());
  const [moving, setMoving] = useState<{ record: RecordJson; to: RecordJson }>();
  const [failure, setFailure] = useState("");
  const [busy, setBusy] = useState(false);
  const sensors = useSensors(
    useSensor(PointerSensor, { activationConstraint: { distance: 6 } }),
    useSensor(KeyboardSensor),
  );
  if (nodes.isError) return <ErrorNote error={nodes.error} onRetry={() => void nodes.refetch()} />;
  if (nodes.isPending) return <Skeleton lines={8} />;

  const byName = new Map(nodes.data.map((node) => [node.name, node]));
  const below = new Map<string, RecordJson[]>();
  for (const node of nodes.data) {
    const above = String(node[tree.parent] ?? "");
    const key = byName.has(above) ? above : "";
    below.set(key, [...(below.get(key) ?? []), node]);
  }
  const count = (name: string): number =>
    (below.get(name) ?? []).reduce((sum, child) => sum + 1 + count(child.name), 0);
  const isBelow = (name: string, above: string): boolean => {
    for (let at = name, steps = 0; at && steps < 100; steps++) {
      if (at === above) return true;
      at = String(byName.get(at)?.[tree.parent] ?? "");
    }
    return false;
  };
  const verb = resource.verbs.find(({ name }) => name === tree.move);
  const movable = verb ? may(session, verb.permission) : may(session, resource.permissions.update);

  const drop = ({ active, over }: DragEndEvent) => {
    const record = byName.get(String(active.id));
    const to = byName.get(String(over?.id));
    if (!record || !to || record === to || record[tree.parent] === to.name) return;
    if (isBelow(to.name, record.name))
      return tell(t("tree.cycle", { title: titleOf(record, resource, language) }), "bad");
    setFailure("");
    setMoving({ record, to });
  };

  const move = async () => {
    if (!moving) return;
    const { record, to } = moving;
    setBusy(true);
    try {
      if (verb) await act(record.name, verb.name, { [tree.parent]: to.name }, record.etag);
      else await update(record.name, { [tree.parent]: to.name }, record.etag);
      setMoving(undefined);
      tell(t("tree.moved"));
    } catch (error) {
      setFailure(messageOf(error));
    } finally {
      setBusy(false);
    }
  };

  const level = (above: string, depth: number) =>
    (below.get(above) ?? []).map((node) => {
      const children = below.get(node.name) ?? [];
      const isOpen = !closed.has(node.name);
      return (
        <li key={node.name} role="none">
          <Node
            {...{ resource, tree, node, depth, movable }}
            open={children.length > 0 ? isOpen : undefined}
            below={count(node.name)}
            onToggle={(open) =>
              setClosed((before) => {
                const next = new Set(before);
                if (open) next.delete(node.name);
                else next.add(node.name);
                return next;
              })
            }
          />
          {isOpen && children.length > 0 && <ul role="group">{level(node.name, depth + 1)}</ul>}
        </li>
      );
    });

  if (nodes.data.length === 0)
    return (
      <div className="card">
        <Empty
          title={
            filter ? t("list.noneFiltered") : t("list.none", { what: plural(resource.label).toLowerCase() })
          }
        />
      </div>
    );
  return (
    <DndContext sensors={sensors} onDragEnd={drop}>
      <div className="card tree-box">
        <ul role="tree" aria-label={resource.label[language === "en" ? "en" : "zh"]} className="tree">
          {level("", 1)}
        </ul>
      </div>
      {moving && (
        <Modal
          open
          title={t("tree.preview")}
          okText={t("tree.move")}
          cancelText={t("action.cancel")}
          okButtonProps={{ loading: busy }}
          onOk={() => void move()}
          onCancel={() => setMoving(undefined)}
        >
          <div className="stack">
            <p>
              {t("tree.text", {
                title: titleOf(moving.record, resource, language),
                from:
                  titleOf(byName.get(String(moving.record[tree.parent] ?? "")), resource, language) ||
                  t("tree.top"),
                to: titleOf(moving.to, resource, language),
              })}
            </p>
            <p>{t("tree.along", { count: count(moving.record.name) })}</p>
            <Refused>{failure}</Refused>
          </div>
        </Modal>
      )}
    </DndContext>
  );
}

interface NodeProps {
  resource: Resource;
  tree: TreeSpec;
  node: RecordJson;
  depth: number;
  movable: boolean;
  /** Undefined for a leaf. */
  open: boolean | undefined;
  below: number;
  onToggle: (open: boolean) => void;
}

function Node({ resource, tree, node, depth, movable, open, below, onToggle }: NodeProps) {
  const { t, language } = useText();
  const title = titleOf(node, resource, language);
  const { attributes, listeners, setNodeRef, setActivatorNodeRef, isDragging } = useDraggable({
    id: node.name,
    disabled: !movable,
  });
  const { setNodeRef: setDropRef, isOver } = useDroppable({ id: node.name });
  const fields = fieldsNamed(resource.fields, tree.show).filter((field) => !isBlank(node[field.name]));
  const press = (event: KeyboardEvent) => {
    if (event.target !== event.currentTarget) return;
    if (event.key === "ArrowRight" && open === false) onToggle(true);
    else if (event.key === "ArrowLeft" && open === true) onToggle(false);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const rows = [
        ...(event.currentTarget.closest("[role=tree]")?.querySelectorAll<HTMLElement>("[role=treeitem]") ??
          []),
      ];
      rows[rows.indexOf(event.currentTarget as HTMLElement) + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
    } else return;
    event.preventDefault();
  };
  return (
    <div
      ref={setDropRef}
      role="treeitem"
      aria-level={depth}
      aria-expanded={open}
      aria-selected={false}
      tabIndex={0}
      className={`tree-node ${isOver ? "tree-over" : ""} ${isDragging ? "board-card-ghost" : ""}`}
      onKeyDown={press}
    >
      {open === undefined ? (
        <span className="tree-toggle" />
      ) : (
        <button
          type="button"
          className="tree-toggle"
          tabIndex={-1}
          aria-label={t(open ? "tree.close" : "tree.open", { title })}
          onClick={() => onToggle(!open)}
        >
          {open ? <DownOutlined /> : <RightOutlined />}
        </button>
      )}
      <span ref={setNodeRef} className="tree-title">
        {movable && (
          <button
            type="button"
            className="board-handle"
            ref={setActivatorNodeRef}
            {...attributes}
            {...listeners}
            aria-label={t("board.move", { title })}
          >
            <HolderOutlined />
          </button>
        )}
        <Link to={`/${node.name}`}>{title}</Link>
      </span>
      {below > 0 && <span className="faint">{below}</span>}
      <span className="grow" />
      {fields.map((field) => (
        <span key={field.name} className="faint">
          <FieldValue field={field} value={node[field.name]} links={false} />
        </span>
      ))}
    </div>
  );
}
