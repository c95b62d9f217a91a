import { useQueryClient } from "@tanstack/react-query";
import { useText } from "@/i18n";
import { SessionsOf } from "@/kit/access-of";
import { post } from "@/kit/got";
import { Page } from "@/kit/page";
import { useSession } from "@/kit/queries";
import { tell } from "@/kit/toasts";

/** Where one is signed in oneself. */
export function SessionsPage() {
  const { t } = useText();
  const session = useSession();
  const client = useQueryClient();
  const others = async () => {
    const answer = await post<{ ended?: number }>("/v1/sessions:endOthers", { session: session.session });
    tell(t("sessions.endedOthers", { count: answer.ended ?? 0 }), "good");
    await client.invalidateQueries({ queryKey: ["list", "sessions"] });
  };
  return (
    <Page
      title={t("sessions.mine")}
      note={<p className="faint">{t("sessions.text")}</p>}
      actions={
        <button
          type="button"
          className="button"
          onClick={() => void others().catch((error: unknown) => tell(String(error), "bad"))}
        >
          {t("sessions.endOthers")}
        </button>
      }
    >
      <SessionsOf person={session.employee} />
    </Page>
  );
}
