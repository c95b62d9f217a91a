import { PhoneOutlined } from "@ant-design/icons";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useNavigate } from "react-router";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { post } from "./got";
import { useCatalogue, useSession } from "./queries";
import { tell } from "./toasts";
import { messageOf } from "./verbs";

/** Has the exchange call a number, and leads to the desk where the call is; absent for whoever makes no calls. */
export function DialButton({ number, subject = "" }: { number: string; subject?: string }) {
  const { t } = useText();
  const client = useQueryClient();
  const navigate = useNavigate();
  const session = useSession();
  const calls = useCatalogue().find("calls");
  const [busy, setBusy] = useState(false);
  const answer = calls?.verbs.find(({ name }) => name === "answer");
  if (!answer || !may(session, answer.permission)) return null;
  const dial = async () => {
    setBusy(true);
    try {
      await post("/v1/calls:dial", { number, subject, requestId: crypto.randomUUID() });
      void navigate("/call-desk");
    } catch (error) {
      tell(messageOf(error), "bad");
    } finally {
      setBusy(false);
      void client.invalidateQueries({ queryKey: ["list", "calls"] });
    }
  };
  return (
    <button type="button" className="button" disabled={busy || !number.trim()} onClick={() => void dial()}>
      <PhoneOutlined aria-hidden="true" /> {t("callDesk.dial")}
      <span className="visually-hidden">{number}</span>
    </button>
  );
}
