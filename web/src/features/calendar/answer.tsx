import { Input } from "antd";
import { useState } from "react";
import { act } from "@/api/client";
import { useText } from "@/i18n";
import { useSession } from "@/kit/queries";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import type { Event } from "./dates";

const ANSWERS = ["ACCEPTED", "TENTATIVE", "DECLINED"] as const;

/** Whoever was asked says whether they come, with a word beside it if they like. */
export function Answer({ event }: { event: Event }) {
  const { t } = useText();
  const session = useSession();
  const mine = (event.attendees ?? []).find(({ employee }) => employee === session.employee);
  const [comment, setComment] = useState(mine?.comment ?? "");
  const [busy, setBusy] = useState(false);
  if (!mine || event.state !== "SCHEDULED") return null;
  const answer = async (response: string) => {
    setBusy(true);
    try {
      await act(event.name, "respond", { response, comment: comment.trim() }, event.etag);
      tell(t("calendar.answered"));
    } catch (error) {
      tell(t("calendar.notAnswered"), "bad", { detail: messageOf(error) });
    } finally {
      setBusy(false);
    }
  };
  return (
    <section className="advice advice-calm" aria-label={t("calendar.yourAnswer")}>
      <strong>{t("calendar.yourAnswer")}</strong>
      <div className="row">
        {ANSWERS.map((response) => (
          <button
            key={response}
            type="button"
            className="chip"
            aria-pressed={mine.response === response}
            disabled={busy}
            onClick={() => void answer(response)}
          >
            {t(`calendar.answer.${response}`)}
          </button>
        ))}
      </div>
      <Input
        aria-label={t("calendar.remark")}
        placeholder={t("calendar.remark")}
        value={comment}
        onChange={({ target }) => setComment(target.value)}
      />
    </section>
  );
}
