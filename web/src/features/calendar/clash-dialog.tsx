import { Modal } from "antd";
import { useText } from "@/i18n";

interface Props {
  message: string;
  onAccept: () => void;
  onCancel: () => void;
}

/** The time is taken: with what it collides, and whether it is to be so all the same. */
export function ClashDialog({ message, onAccept, onCancel }: Props) {
  const { t } = useText();
  return (
    <Modal
      open
      title={t("calendar.conflict")}
      okText={t("calendar.moveAnyway")}
      cancelText={t("action.cancel")}
      onOk={onAccept}
      onCancel={onCancel}
    >
      <p>{message}</p>
    </Modal>
  );
}
