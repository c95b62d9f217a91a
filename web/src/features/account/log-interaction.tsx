import { useQueryClient } from "@tanstack/react-query";
import { Input, Select } from "antd";
import { useRef, useState, type FormEvent } from "react";
import { create } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { useCatalogue, useSession } from "@/kit/queries";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";

/** What was just said or done, kept in one line without leaving the page. */
export function LogInteraction({ account }: { account: string }) {
  const { t, label } = useText();
  const client = useQueryClient();
  const session = useSession();
  const resource = useCatalogue().find("interactions");
  const channels = resource?.fields.find((field) => field.name === "channel")?.choices ?? [];
  const [channel, setChannel] = useState("CALL");
  const [summary, setSummary] = useState("");
  const [busy, setBusy] = useState(false);
  const attempt = useRef<{ body: string; key: string }>(undefined);
  if (!resource?.has.create || !may(session, resource.permissions.create)) return null;

  const save = async (event: FormEvent) => {
    event.preventDefault();
    if (busy || !summary.trim()) return;
    const body = {
      account,
      channel,
      summary: summary.trim(),
      direction: "OUTBOUND",
      startTime: new Date().toISOString(),
    };
    const content = `${channel} ${body.summary}`;
    if (attempt.current?.body !== content) attempt.current = { body: content, key: crypto.randomUUID() };
    setBusy(true);
    try {
      await create("interactions", body, attempt.current.key);
      attempt.current = undefined;
      setSummary("");
      tell(t("account.logged"));
      void client.invalidateQueries({ queryKey: ["list", "timeline"] });
    } catch (error) {
      tell(t("account.notLogged"), "bad", { detail: messageOf(error) });
    } finally {
      setBusy(false);
    }
  };

  return (
    <form className="card log" onSubmit={(event) => void save(event)}>
      <Select
        aria-label={t("account.channel")}
        value={channel}
        options={channels.map((choice) => ({ value: choice.value, label: label(choice.label) }))}
        onChange={setChannel}
      />
      <Input.TextArea
        aria-label={t("account.logHint")}
        placeholder={t("account.logHint")}
        value={summary}
        rows={1}
        className="grows"
        onChange={(event) => setSummary(event.target.value)}
      />
      <button type="submit" className="button button-primary" disabled={busy || !summary.trim()}>
        {t("account.log")}
      </button>
    </form>
  );
}
