import { Drawer } from "antd";
import { useNavigate } from "react-router";
import { useText } from "@/i18n";
import type { Command } from "@/kit/commands";
import { useResource } from "@/kit/queries";
import { RecordForm } from "@/kit/record-form";
import { screenOf } from "@/resources";
import { tell } from "@/kit/toasts";

/** Five to eight fields beside whatever one was doing; "more fields" shows the rest. */
export function QuickCreate({
  command,
  onClose,
}: {
  command: Extract<Command, { kind: "create" }>;
  onClose: () => void;
}) {
  const { t, label, noun } = useText();
  const navigate = useNavigate();
  const resource = useResource(command.collection);
  const title = t("form.newTitle", { what: noun(resource.label) });
  return (
    <Drawer open onClose={onClose} title={title} size={560} destroyOnHidden>
      <RecordForm
        key={command.collection}
        resource={resource}
        quick
        initial={{ ...screenOf(resource.collection).defaults?.(), ...command.values }}
        onCancel={onClose}
        onSaved={(record) => {
          onClose();
          if (command.onSaved) return command.onSaved(record.name);
          tell(t("form.created", { what: label(resource.label) }), "good", {
            action: { label: t("action.open"), run: () => void navigate(`/${record.name}`) },
          });
          void navigate(`/${record.name}`);
        }}
      />
    </Drawer>
  );
}
