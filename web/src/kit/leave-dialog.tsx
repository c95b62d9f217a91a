import { Modal } from "antd";
import { useText } from "@/i18n";

export function LeaveDialog({ onLeave, onStay }: { onLeave: () => void; onStay: () => void }) {
  const { t } = useText();
  return (
    <Modal
      open
      title={t("form.leaveTitle")}
      okText={t("form.stay")}
      cancelText={t("form.leave")}
      onOk={onStay}
      onCancel={onLeave}
      closable={false}
    >
      {t("form.leaveText")}
    </Modal>
  );
}
