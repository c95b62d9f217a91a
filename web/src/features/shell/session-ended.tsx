import { Modal } from "antd";
import { signInUrl } from "@/api/session";
import { useText } from "@/i18n";

/** One dialog over the page that stays: sign in beside it, then go on where one was. */
export function SessionEnded() {
  const { t } = useText();
  return (
    <Modal open closable={false} keyboard={false} footer={null} title={t("session.ended")}>
      <p>{t("session.endedText")}</p>
      <p>
        <a
          className="button button-primary"
          href={signInUrl(`${import.meta.env.BASE_URL}signed-in`)}
          target="_blank"
          rel="opener"
        >
          {t("session.signIn")}
        </a>
      </p>
    </Modal>
  );
}
