import { Drawer } from "antd";
import type { Resource } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { titleOf } from "./queries";
import { RecordFields } from "./record-fields";

interface Props {
  resource: Resource;
  record: RecordJson;
  onOpen: () => void;
  onClose: () => void;
}

/** The record beside the list, without leaving it. */
export function Peek({ resource, record, onOpen, onClose }: Props) {
  const { t, language } = useText();
  return (
    <Drawer
      open
      size={480}
      title={titleOf(record, resource, language)}
      onClose={onClose}
      footer={
        <button type="button" className="button button-primary" onClick={onOpen}>
          {t("action.open")}
        </button>
      }
    >
      <RecordFields resource={resource} record={record} />
    </Drawer>
  );
}
